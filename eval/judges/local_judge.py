"""The judge of free answers as a language model on this machine: no server, no key, the same verdict every time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError

from ..fingerprint import fingerprint
from .base import AnyJudge
from .openai_judge import JudgeAway

NEW_TOKENS = 512


class LocalJudge(AnyJudge):
    """Verdicts of an instruction-tuned language model in a folder, one at a time, greedily.

    The model is loaded with the first verdict that is not kept yet; the folder is looked at at once. Greedy answers do
    not depend on the temperature, so what VLMEvalKit asks again at a higher one is not computed again. An empty answer
    is a verdict too: asked again it would be the same.

    Args:
        folder: config.json, weights as safetensors, and a tokenizer with a chat template.
        file: where verdicts are kept, one JSON line each; the parent folder is made.
        new_tokens: the longest answer, in tokens; a request's own max_tokens may shorten it.
        device: where the model goes; by default the GPU (bfloat16) where there is one, else the CPU (float32).

    Raises:
        EvaluationError: the folder holds no such model.
        OutputError: a line of the file was not written by this program.
    """

    def __init__(self, folder: Path, file: Path, *, new_tokens: int = NEW_TOKENS, device: str | None = None) -> None:
        self.folder, self.new_tokens, self.device = folder, new_tokens, device
        self.tokenizer = _tokenizer(folder)
        # By weights, not by name: a folder that is moved keeps its verdicts, one that is overwritten does not.
        super().__init__(f"local:{fingerprint(folder)}", file, workers=1)
        self.model: Any = None
        self.turn = threading.Lock()

    def generate(self, prompt: Any, temperature: float = 0, max_tokens: int | None = None, **_: Any) -> str:
        """The verdict on a prompt: a text, or VLMEvalKit's list of messages with texts.

        Raises:
            JudgeAway: the model cannot be loaded, does not fit, or the prompt is longer than it can read.
            OutputError: the verdict cannot be written.
        """
        allowed = self.new_tokens if max_tokens is None else min(self.new_tokens, max_tokens)
        return super().generate(prompt, 0, allowed)

    def _ask(self, text: str, temperature: float, max_tokens: int | None) -> str:
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
            new = min(max_tokens or self.new_tokens, self._context() - length)
            if new < 1:
                raise JudgeAway(
                    f"the judge in {self.folder} reads {self._context()} tokens at most, a question to it has "
                    f"{length}: name a judge with a longer context"
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
                raise JudgeAway(
                    f"the judge in {self.folder} does not fit into the GPU's memory beside what is there: name a "
                    f"smaller one, or a server (NAME@URL). {len(self.verdicts)} verdicts are kept."
                ) from fault
            return str(self.tokenizer.decode(found[0, length:], skip_special_tokens=True)).strip()

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
