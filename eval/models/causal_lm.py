"""Answers of a language model without pictures, in batches, by transformers' own search: greedy or with beams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.data.tokens.tokenise import Encoder
from moslora_xtuner.errors import ConfigError, EvaluationError, MoSLoRAError
from moslora_xtuner.llm.families import INTERNLM2, family
from moslora_xtuner.llm.load import load_internlm2, load_tokenizer
from moslora_xtuner.llm.whole import require_whole

from ..tasks.prompts import Question
from . import batching
from .precision import Precision
from .text_folders import TextFolders


class CausalAnswerer:
    """Answers prompts as they stand: nothing is put around them but what the tokenizer itself opens a text with.

    Dropout is off, and padding on the left is hidden from the attention, so that a prompt's answer is the one that it
    would get alone, up to rounding. (The authors' evaluation has dropout on and hides nothing, so it asks one by one.)

    Args: `folders` of the model; `precision` of its weights (default: bf16 on a GPU, fp32 on a CPU); `device`
    (default: GPU where there is one).
    Raises EvaluationError when the folders hold no such model.
    """

    def __init__(self, folders: TextFolders, *, precision: Precision | None = None, device: str | None = None) -> None:
        import torch

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer, self.encoder = load_encoder(folders)
        precision = precision or Precision.default(self.device)
        model = _load(folders, precision.loading(self.device))
        self.model: Any = model.eval() if precision is Precision.four_bit else model.eval().to(self.device)
        own = self.model.generation_config.eos_token_id
        self.stops = {*self.encoder.eos, *([] if own is None else own if isinstance(own, list) else [own])}
        # Only the padding's place counts, not its token.
        pad = self.tokenizer.pad_token_id
        self.pad = int(pad if pad is not None else next(iter(self.stops), 0))

    def answer_batch(self, questions: Sequence[Question]) -> list[str]:
        """Answer the questions at once; where the GPU's memory does not hold them, one half after the other."""
        return batching.within_memory(self._at_once, questions)

    def _at_once(self, questions: Sequence[Question]) -> list[str]:
        """Those that are looked for alike together."""
        answers = [""] * len(questions)
        ways = {(question.max_new_tokens, question.beams) for question in questions}
        for way in sorted(ways):
            places = [i for i, question in enumerate(questions) if (question.max_new_tokens, question.beams) == way]
            found = self._generate([questions[place].text for place in places], *way)
            for place, text in zip(places, found, strict=True):
                answers[place] = text
        return answers

    def _generate(self, prompts: Sequence[str], longest: int, beams: int) -> list[str]:
        import torch
        from transformers import GenerationConfig

        rows = prompt_ids(self.encoder, prompts)
        width = max(map(len, rows))
        ids = torch.tensor([[self.pad] * (width - len(row)) + row for row in rows], device=self.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.device)
        settings = GenerationConfig(
            max_new_tokens=longest,
            num_beams=beams,
            do_sample=False,
            pad_token_id=self.pad,
            eos_token_id=sorted(self.stops) or None,
        )
        with torch.inference_mode():
            made = self.model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
        return [self._text(tokens) for tokens in made[:, width:].tolist()]

    def _text(self, tokens: Sequence[int]) -> str:
        """The answer's text, up to its end and without special tokens."""
        end = next((place for place, token in enumerate(tokens) if token in self.stops), len(tokens))
        text: str = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        return text.strip()


def load_encoder(folders: TextFolders) -> tuple[Any, Encoder]:
    """The tokenizer, and what encodes prompts with it. Raises EvaluationError where there is none."""
    try:
        tokenizer = load_tokenizer(folders.base, local_files_only=True)
    except ConfigError as fault:
        raise EvaluationError(str(fault)) from fault
    return tokenizer, Encoder(tokenizer, plain=True)


def prompt_ids(encoder: Encoder, prompts: Sequence[str]) -> list[list[int]]:
    """The ids of whole prompts; a control token that is written in one is text, as in training."""
    return [encoder.bos + ids for ids in encoder([((text, True),) for text in prompts])]


def _load(folders: TextFolders, options: dict[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        if family(folders.base) == INTERNLM2:
            model = load_internlm2(str(folders.base), **options)
            require_whole(folders.base, model, local_files_only=True)
            return _as_llama(_adapted(model, folders.adapter, merge=True))
        model = AutoModelForCausalLM.from_pretrained(
            folders.base, local_files_only=True, trust_remote_code=False, attn_implementation="sdpa", **options
        )
        require_whole(folders.base, model, local_files_only=True)
        return _adapted(model, folders.adapter)
    except MoSLoRAError as fault:
        raise EvaluationError(f"{folders.base}: {fault}") from fault
    except (OSError, ValueError, RuntimeError) as fault:
        raise EvaluationError(f"{folders.base} cannot be loaded: {fault}. Make or fetch the model again.") from fault


def _adapted(model: Any, adapter: Path | None, *, merge: bool = False) -> Any:
    if adapter is None:
        return model
    from peft import PeftModel

    import moslora_xtuner.adapters  # noqa: F401  (PEFT learns of mixers)
    from moslora_xtuner.adapters.four_bit import compute_as_in_training

    tuned = PeftModel.from_pretrained(model, str(adapter))
    compute_as_in_training(tuned)
    return tuned.merge_and_unload() if merge else tuned


def _as_llama(model: Any) -> Any:
    """An InternLM2 as the LLaMA that it is: the class inside XTuner searches with no cache of today's transformers."""
    from transformers import LlamaForCausalLM

    from moslora_xtuner.llm.internlm2_as_llama import llama_config, llama_names

    llama = LlamaForCausalLM(llama_config(model.config)).to(model.dtype)
    llama.load_state_dict(llama_names(model.state_dict(), model.config))
    llama.generation_config.eos_token_id = model.generation_config.eos_token_id
    return llama
