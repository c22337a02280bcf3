"""MMBench in 2026: the test set that can be scored stands in for the one that the paper used.

The server that scored v1.0 closed on 2026-03-31; the answers of V1.1, other and harder questions, are public since
(MMBench#61).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from . import tsv
from .registry import GROUPS, STANDS_IN


def asked_for(words: Iterable[str], data_root: Path | None, download: bool) -> list[str]:
    """The words of `--benchmarks` with `paper` as its nine datasets: of MMBench those that can be scored."""
    found: list[str] = []
    for word in words:
        found += [_standing(name, data_root, download) for name in GROUPS["paper"]] if word == "paper" else [word]
    return found


def _standing(dataset: str, data_root: Path | None, download: bool) -> str:
    """The dataset, or what stands in for it: where its own table has no answers, or is not there."""
    newer = STANDS_IN.get(dataset)
    if newer is None or data_root is None:
        return dataset
    old, new = (data_root / f"{name}.tsv" for name in (dataset, newer))
    if old.is_file() and tsv.has_answers(old):
        return dataset
    if new.is_file():
        return newer if tsv.has_answers(new) or not old.is_file() else dataset
    return newer if download or not old.is_file() else dataset
