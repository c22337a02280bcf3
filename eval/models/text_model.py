"""A language model without pictures as what `moslora eval` asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from moslora_xtuner.data.tokens.tokenise import Encoder

from ..fingerprint import fingerprint
from ..tasks.prompts import Question
from .causal_lm import CausalAnswerer, load_encoder, prompt_ids
from .precision import Precision, rounding
from .text_folders import TextFolders, adapter_of
from .worker_pool import Answerer, InProcess, Pool, Processes, own_device


@dataclass(frozen=True)
class TextModel:
    """A language model on disk that knows no pictures, with its adapter where it has one apart."""

    name: str
    source: str
    folders: TextFolders
    sha256: str
    precision: Precision
    facts: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @classmethod
    def read(
        cls, folders: TextFolders, precision: Precision, source: str, name: str, folder: Path | None = None
    ) -> TextModel:
        """A model that has been found, in a folder that may say how it was trained."""
        marks = " ".join([*map(fingerprint, folders.all), precision.value])
        facts: dict[str, Any] = {"precision": precision.value}
        if folders.adapter is not None:
            facts["base"] = folders.base.resolve().name
        if kept := adapter_of(folders):
            facts["adapter_of"] = kept
        return cls(name, source, folders, hashlib.sha256(marks.encode()).hexdigest(), precision, facts, folder)

    def prompt(self, question: Question) -> str:
        """The question's text, which is the whole prompt."""
        return question.text

    def lengths(self, questions: list[Question]) -> list[int]:
        """In tokens."""
        return [len(ids) for ids in prompt_ids(self._encoder, [question.text for question in questions])]

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self.folders)[1]

    def batch_size(self, wanted: int) -> int:
        """As wanted."""
        return wanted

    def conditions(self, batch_size: int) -> str:
        """The batch, the device and the libraries: each may round otherwise."""
        return rounding(batch_size)

    def pool(self, processes: int, batch_size: int) -> Pool:
        """One process is this one."""
        make = partial(_load, self.folders, self.precision)
        return InProcess(make) if processes == 1 else Processes(make, processes)


def _load(folders: TextFolders, precision: Precision, number: int, count: int) -> Answerer:
    """The model of process `number` of `count`."""
    return CausalAnswerer(folders, precision=precision, device=own_device(number, count))
