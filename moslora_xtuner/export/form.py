"""moslora_export.json: what an exported folder holds, how it is asked, and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import read_json
from ..data.instructions import IMAGE_TOKEN
from ..errors import ExportError
from ..formats import FORMAT, unreadable

FILE_NAME = "moslora_export.json"
LLAVA, CAUSAL_LM, LORA, XTUNER = "hf-llava", "hf-causal-lm", "lora", "xtuner"
"""The kinds of an export: a merged Hugging Face LLaVA or language model, one with a plain LoRA beside it, XTuner's own
layout."""

BASE_LLAVA, ADAPTER = "base", "adapter"
"""In an export of the kind LORA: the LLaVA, or the language model, and what tunes it."""
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def vllm_rank(rank: int) -> int:
    """vLLM's --max-lora-rank for an adapter: it takes some numbers alone."""
    return next((known for known in _VLLM_RANKS if known >= rank), rank)


@dataclass(frozen=True)
class ExportForm:
    """The chat form and image handling of one model.

    prompt = SYSTEM.format(system) (where there is one) + INSTRUCTION.format(input).

    Attributes:
        kind: LLAVA, CAUSAL_LM, LORA or XTUNER.
        name: what reports call the model.
        system_template, instruction: XTuner's templates of a system prompt and of one turn.
        stop_words: end an answer.
        system: the system prompt; "" for none.
        bos: whether a prompt begins with the tokenizer's BOS.
        pad_image_to_square: whether a picture is padded before it is resized.
        image_token: stands where the picture does.
        source: training.json, or base.json, of what was exported.
    """

    kind: str
    name: str
    system_template: str
    instruction: str
    stop_words: tuple[str, ...] = ()
    system: str = ""
    bos: bool = True
    pad_image_to_square: bool = True
    image_token: str = IMAGE_TOKEN
    source: Mapping[str, Any] = field(default_factory=dict)

    def prompt(self, text: str) -> str:
        """The whole prompt of one turn, without BOS."""
        system = self.system_template.format(system=self.system) if self.system else ""
        return system + self.instruction.format(input=text, round=1)

    @classmethod
    def read(cls, folder: Path) -> ExportForm:
        """Read the file of an export. Raises ExportError where it is missing, broken or of a newer version."""
        path = folder / FILE_NAME
        try:
            content = read_json(path)
            if isinstance(content["format"], str):  # before there were numbers, the kind stood there
                content = {**content, "format": FORMAT, "kind": content["format"]}
            if (why := unreadable(content)) is not None:
                raise ExportError(f"{path} cannot be read: {why}")
            template = content["template"]
            return cls(
                kind=str(content["kind"]),
                name=str(content.get("name") or folder.name),
                system_template=str(template.get("SYSTEM", "")),
                instruction=str(template["INSTRUCTION"]),
                stop_words=tuple(str(word) for word in template.get("STOP_WORDS", ())),
                system=str(content.get("system", "")),
                bos=bool(content.get("bos", True)),
                pad_image_to_square=bool(content.get("pad_image_to_square", True)),
                image_token=str(content.get("image_token", IMAGE_TOKEN)),
                source=dict(content.get("source", {})),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            raise ExportError(
                f"{path} cannot be used ({type(fault).__name__}: {fault}): export the model again"
            ) from fault

    def write(self, folder: Path) -> None:
        """Write the file into a folder that is being made."""
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "name": self.name,
            "template": {
                "SYSTEM": self.system_template,
                "INSTRUCTION": self.instruction,
                "STOP_WORDS": list(self.stop_words),
            },
            "system": self.system,
            "bos": self.bos,
            "pad_image_to_square": self.pad_image_to_square,
            "image_token": self.image_token,
            "source": dict(self.source),
        }
        (folder / FILE_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
