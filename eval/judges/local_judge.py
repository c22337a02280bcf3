"""The judge of free answers as a language model on this machine: no server, no key, the same verdict every time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError

from ..fingerprint import fingerprint
from .base import AnyJudge, Ask, JudgeAway, Refused, Reply, VerdictLog

NEW_TOKENS = 512


class LocalJudge(AnyJudge):
    """Replies of an instruction-tuned language model in a folder, one at a time, greedily.

    The model is loaded with the first reply that is not kept yet; the folder is looked at at once. Greedy replies do
    not depend on the temperature, and are the same each time: nothing is asked again.

    Args:
        folder: config.json, weights as safetensors, and a tokenizer with a chat template.
        log: where replies are kept.
        new_tokens: the longest reply, in tokens; a request's own limit may shorten it.
        device: where the model goes; by default the GPU (bfloat16) where there is one, else the CPU (float32).

    Raises:
        EvaluationError: the folder holds no such model.
    """

    repeats = False

    def __init__(
        self, folder: Path, log: VerdictLog, *, new_tokens: int = NEW_TOKENS, device: str | None = None
    ) -> None:
        self.folder, self.new_tokens, self.device = folder, new_tokens, device
        self.tokenizer = _tokenizer(folder)
        # By weights, not by name: a folder that is moved keeps its verdicts, one that is overwritten does not.
        self._identity = f"local:{fingerprint(folder)}"
        super().__init__(log, workers=1)
        self.departures.append("a model on this machine, asked greedily and once")
        self.model: Any = None
        self.turn = threading.Lock()

    @property
    def identity(self) -> str:
        """Its weights."""
        return self._identity

    @property
    def address(self) -> str:
        """Its folder."""
        return f"the judge in {self.folder}"

    def reply(self, prompt: str, ask: Ask) -> Reply:
        """The model's words on a prompt.

        Raises:
            Refused: the prompt is longer than it can read, or too long for the memory.
            JudgeAway: the model cannot be loaded.
            OutputError: they cannot be written.
        """
        allowed = self.new_tokens if ask.max_tokens is None else min(self.new_tokens, ask.max_tokens)
        return super().reply(prompt, Ask(0, allowed))

    def _ask(self, text: str, ask: Ask) -> Reply:
        import torch

        with self.turn:
            if self.model is None:
                self.model = _load(self.folder, self.device)
            self.asked += 1
            given = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
            ).to(self.model.device)
            ids = given["input_ids"]
            length = ids.shape[1]
            new = min(ask.max_tokens or self.new_tokens, self._context() - length)
            if new < 1:
                raise Refused(
                    f"it reads {self._context()} tokens at most, a question to it has {length}: name a judge with a "
                    "longer context"
                )
            try:
                with torch.inference_mode():
                    found = self.model.generate(
                        ids,
                        attention_mask=given["attention_mask"],
                        pad_token_id=self._padding(),
                        max_new_tokens=new,
                        do_sample=False,
                        num_beams=1,
                        **dict.fromkeys(("temperature", "top_p", "top_k")),  # else it warns of each that is unused
                    )
            except torch.OutOfMemoryError as fault:
                raise Refused(
                    "it does not fit into the GPU's memory beside what is there: name a smaller one, or a server "
                    "(NAME@URL)"
                ) from fault
            said = found[0, length:]
            cut = len(said) == new and int(said[-1]) not in self._ends()
            return Reply(str(self.tokenizer.decode(said, skip_special_tokens=True)).strip(), cut)

    def _ends(self) -> set[int]:
        """The tokens that end a reply."""
        ends = self.model.generation_config.eos_token_id
        return set(ends) if isinstance(ends, list) else {ends} - {None}

    def _context(self) -> int:
        return int(getattr(self.model.config, "max_position_embeddings", None) or 1 << 30)

    def _padding(self) -> int | None:
        own: int | None = self.tokenizer.pad_token_id
        end: int | None = self.tokenizer.eos_token_id
        return end if own is None else own


def _tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder that holds all that a judge needs."""
    from transformers import AutoConfig, AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    need = "A judge is a language model that was tuned to follow instructions, with its tokenizer and chat template."
    if not (folder / "config.json").is_file():
        raise EvaluationError(f"{folder} is no folder of a model: it has no config.json. {need}")
    if not any(folder.glob("*.safetensors")):
        raise EvaluationError(f"{folder} has no weights in safetensors files. {need}")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as fault:  # transformers raises all kinds for a broken folder
        raise EvaluationError(
            f"{folder} cannot be read as a model ({type(fault).__name__}: {fault}). {need}"
        ) from fault
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise EvaluationError(f"{folder} holds a {config.model_type}, which is no language model. {need}")
    if not tokenizer.chat_template:
        raise EvaluationError(
            f"the tokenizer in {folder} has no chat template, so it is not known how to ask this model. {need}"
        )
    return tokenizer


def _load(folder: Path, device: str | None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = torch.float32 if place.type == "cpu" else torch.bfloat16
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=kind, device_map={"": place}
        ).eval()
    except torch.OutOfMemoryError as fault:
        raise JudgeAway(f"the judge in {folder} does not fit into the memory of {place}: {fault}") from fault
    except Exception as fault:
        raise JudgeAway(f"the judge in {folder} cannot be loaded ({type(fault).__name__}: {fault})") from fault
