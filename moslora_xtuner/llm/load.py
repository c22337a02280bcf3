"""Loading language models and tokenizers; no checkpoint's own code is ever run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .families import INTERNLM2, LLAMA, checkpoint_file, family, require_family

TOKENIZER_CONFIG = "tokenizer_config.json"
LARGEST_TEXT = 100 * 2**20
"""Bytes of a checkpoint's JSON, vocabulary or template; the largest known have about 35 MiB."""


def classes(model_type: str | None) -> tuple[Any, Any]:
    """A family's config and its model: of transformers, or for InternLM2 those that ship inside XTuner.

    Raises:
        ConfigError: it is neither family.
    """
    if model_type == LLAMA:
        from transformers import LlamaConfig, LlamaForCausalLM

        return LlamaConfig, LlamaForCausalLM
    if model_type == INTERNLM2:
        from xtuner._lite.modelings.internlm2 import InternLM2Config, InternLM2ForCausalLM

        return InternLM2Config, InternLM2ForCausalLM
    raise ConfigError(f"a checkpoint of type {model_type!r}: {LLAMA} or {INTERNLM2} are supported")


def load_llama(pretrained_model_name_or_path: str, **options: Any) -> Any:
    """A LlamaForCausalLM.

    Args:
        pretrained_model_name_or_path: a folder or a hub id.
        **options: of `PreTrainedModel.from_pretrained`.

    Raises:
        ConfigError: there is no checkpoint, or it is of another family.
    """
    require_family(pretrained_model_name_or_path, LLAMA)
    return classes(LLAMA)[1].from_pretrained(pretrained_model_name_or_path, **options)


def load_internlm2(pretrained_model_name_or_path: str, attn_implementation: str = "sdpa", **options: Any) -> Any:
    """An InternLM2ForCausalLM of the class that ships inside XTuner, instead of the checkpoint's remote code.

    Args:
        pretrained_model_name_or_path: a folder or a hub id.
        attn_implementation: sdpa, flash_attention_2 or eager. The class reads a field of this name in its config,
            where the published checkpoints say eager.
        **options: of `PreTrainedModel.from_pretrained`.

    Raises:
        ConfigError: there is no checkpoint, or it is of another family.
    """
    require_family(pretrained_model_name_or_path, INTERNLM2)
    config_class, model_class = classes(INTERNLM2)
    config = config_class.from_pretrained(pretrained_model_name_or_path)
    config.attn_implementation = attn_implementation
    return model_class.from_pretrained(pretrained_model_name_or_path, config=config, **options)


def load_llm(checkpoint: str | Path, **options: Any) -> Any:
    """A language model of either family.

    Raises:
        ConfigError: there is no checkpoint, or it is of a third family.
    """
    loaders = {LLAMA: load_llama, INTERNLM2: load_internlm2}
    found = family(checkpoint)
    if found not in loaders:
        raise ConfigError(f"{checkpoint} is a checkpoint of type {found!r}: {' or '.join(loaders)} are supported")
    return loaders[found](str(checkpoint), **options)


def load_tokenizer(pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
    """A checkpoint's tokenizer; InternLM2's is built from its `tokenizer.model` instead of by its remote code.

    Args:
        pretrained_model_name_or_path: a folder or a hub id.
        **options: of `PreTrainedTokenizerBase.from_pretrained`.

    Raises:
        ConfigError: there is no tokenizer, a damaged one, or one that cannot be loaded without remote code.
    """
    checkpoint = str(pretrained_model_name_or_path)
    try:
        _require_bounded(Path(checkpoint))
        file = checkpoint_file(checkpoint, TOKENIZER_CONFIG, options.get("local_files_only", False))
        if file is None:
            raise FileNotFoundError(f"it has no {TOKENIZER_CONFIG}")
        kind = json.loads(file.read_text(encoding="utf-8")).get("tokenizer_class", "")
        if str(kind).startswith("InternLM2Tokenizer"):
            from .internlm2_tokenizer import InternLM2Tokenizer

            return InternLM2Tokenizer.from_pretrained(checkpoint, **options)
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=False, **options)
    except ConfigError:
        raise
    except (OSError, ValueError) as fault:
        reason = (str(fault) or type(fault).__name__).splitlines()[0]
        raise ConfigError(f"no tokenizer at {checkpoint} ({reason}): give the model's folder or hub id") from fault
    except Exception as fault:  # tokenizers raises Exception itself, transformers what a damaged file brings about
        raise ConfigError(
            f"the tokenizer at {checkpoint} cannot be read ({type(fault).__name__}: {str(fault).partition(chr(10))[0]})"
            ": download its files again"
        ) from fault


def _require_bounded(folder: Path) -> None:
    """Stop before a text file is read that no tokenizer is as large as: parsed, it takes twenty times its size."""
    for file in folder.glob("*") if folder.is_dir() else ():
        if file.suffix in (".json", ".model", ".txt", ".jinja") and file.stat().st_size > LARGEST_TEXT:
            raise ConfigError(
                f"{file} has {file.stat().st_size / 2**20:.0f} MiB, more than the {LARGEST_TEXT / 2**20:.0f} that any "
                "tokenizer or config has: it is not read"
            )
