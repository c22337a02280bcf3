"""An export is proved on the training's own records: what stands on the disk computes what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from ..errors import ExportError
from .llm import StreamedLlm

MERGED = 1e-4
"""Largest difference of two logits, of the largest, between base with adapter and merged weights, both in float32."""
READ_BACK = 1e-5
"""The same between the weights that were to be written and those that are read from the disk."""
TOKENS = 1_600
"""Places of the language model that a proof runs through, pictures' places included: minutes with 8B on few cores."""


@dataclass(frozen=True)
class Probe:
    """One record: ids with IMAGE_TOKEN_INDEX for a picture, labels, and pixels (images, 3, H, W) or None."""

    ids: Tensor
    labels: Tensor
    pixels: Tensor | None = None

    @property
    def places(self) -> Tensor:
        """Where an answer's token is predicted, in a sequence in which a picture has one place."""
        learnt = torch.nonzero(self.labels[1:] != IGNORE_INDEX).flatten()
        return learnt if len(learnt) else torch.arange(len(self.ids) - 1)


@dataclass(frozen=True)
class Gap:
    """How far two models are apart: the largest difference of two logits, of the scale of all, and the answers' tokens.

    Attributes:
        logits: max |a - b| / max |b|.
        tokens: how many of an answer's tokens were looked at.
        other: at how many of them another token is the most likely.
    """

    logits: float
    tokens: int
    other: int

    def __str__(self) -> str:
        return f"logits differ by {self.logits:.1e} of their scale, {self.other} of {self.tokens} likeliest tokens"


def read_probes(file: Path) -> list[Probe]:
    """The records that a training left; none where there is no such file. Raises ExportError when it is broken."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        return []
    try:
        found = load_file(file)
        numbers = sorted({int(name.partition(".")[0]) for name in found})
        return [Probe(found[f"{n}.ids"], found[f"{n}.labels"], found.get(f"{n}.pixels")) for n in numbers]
    except (SafetensorError, ValueError, KeyError) as fault:
        raise ExportError(f"{file} cannot be read ({fault}): delete it, and the export is proved on others") from fault


def made_up_probes(tokenizer: Any, prompt: str, edge: int) -> list[Probe]:
    """Records for a run that left none: a prompt without and with a picture of waves.

    Args:
        tokenizer: of the model.
        prompt: one turn with `{}` where the question's words stand.
        edge: of a picture.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    before, after = prompt.split("{}")
    words = encode(f"{before}What is this?{after}")
    pictured = [*encode(before), IMAGE_TOKEN_INDEX, *encode(f"\nWhat is in the picture?{after}")]
    waves = torch.linspace(-40, 40, 3 * edge * edge).reshape(1, 3, edge, edge).sin()
    return [_unlabelled([*bos, *words]), _unlabelled([*bos, *pictured], waves)]


def made_up_texts(tokenizer: Any, instruction: str) -> list[Probe]:
    """The same for a model without pictures: two questions.

    Args:
        tokenizer: of the model.
        instruction: one turn with `{input}` where the question's words stand.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    asked = ("What is this?", "Is water wet? Answer with true or false.")
    texts = [instruction.replace("{input}", words) for words in asked]
    return [_unlabelled([*bos, *tokenizer.encode(text, add_special_tokens=False)]) for text in texts]


def _unlabelled(ids: list[int], pixels: Tensor | None = None) -> Probe:
    found = torch.tensor(ids)
    return Probe(found, torch.full_like(found, IGNORE_INDEX), pixels)


def within_budget(probes: Sequence[Probe], patches: int) -> list[Probe]:
    """As many records as TOKENS allow, one with a picture before all others; a longer one is cut."""
    chosen: list[Probe] = []
    left = TOKENS
    for probe in sorted(probes, key=lambda probe: probe.pixels is None):
        pictures = 0 if probe.pixels is None else len(probe.pixels)
        room = left - pictures * (patches - 1)
        if chosen and room < len(probe.ids):
            continue
        cut = max(room, 64)
        kept = Probe(probe.ids[:cut], probe.labels[:cut], probe.pixels)
        if int((kept.ids == IMAGE_TOKEN_INDEX).sum()) == pictures:
            chosen.append(kept)
            left -= len(kept.ids) + pictures * (patches - 1)
    return chosen


def embedded(llm: StreamedLlm, probe: Probe, features: Tensor | None, rounded: torch.dtype | None = None) -> Tensor:
    """What goes into the first block, (1, length, H): words' embeddings, and pictures' features in their places.

    Args:
        llm: its embedding is read.
        probe: the record.
        features: (images, patches, H).
        rounded: the number type that the embedding is rounded to.
    """
    marks = torch.nonzero(probe.ids == IMAGE_TOKEN_INDEX).flatten().tolist()
    words = llm.embed(probe.ids.clamp(min=0), rounded)
    pieces, at = [], 0
    for number, mark in enumerate(marks):
        assert features is not None
        pieces += [words[at:mark], features[number]]
        at = mark + 1
    return torch.cat([*pieces, words[at:]])[None]


def logits_at_answers(
    llm: StreamedLlm, probes: Sequence[Probe], states: Sequence[Tensor], rounded: torch.dtype | None = None
) -> list[Tensor]:
    """Of each record the logits (tokens, vocabulary) that predict its answer."""
    made = []
    for probe, state in zip(probes, states, strict=True):
        marks = (probe.ids == IMAGE_TOKEN_INDEX).long()
        grown = state.shape[1] - len(probe.ids)
        each = grown // int(marks.sum()) if int(marks.sum()) else 0
        places = probe.places
        made.append(llm.logits(state, places + each * marks.cumsum(0)[places], rounded))
    return made


def compare(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> Gap:
    """How far the second is from the first; tokens that only the second has (the picture's) are not looked at."""
    logits = 0.0
    tokens = other = 0
    for a, b in zip(wanted, found, strict=True):
        same = b[:, : a.shape[1]]
        gap = float((same - a).abs().max() / a.abs().max().clamp(min=1e-12))
        logits = max(logits, gap if gap == gap else float("inf"))
        tokens += len(a)
        other += int((b.argmax(-1) != a.argmax(-1)).sum())
    return Gap(logits, tokens, other)


def require(gap: Gap, bound: float, what: str) -> None:
    """Stop above the bound. Raises ExportError."""
    if not gap.logits <= bound:
        raise ExportError(f"{what}: {gap}; {bound:g} would be rounding. Nothing is kept of it")
