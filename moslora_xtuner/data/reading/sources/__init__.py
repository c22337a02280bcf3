"""Where records come from: JSON, JSON Lines, folders of Hugging Face datasets, several of them with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ....errors import DataError, UsageError
from .chunks import Broken, Chunk, Entry
from .packed import packed
from .table import TableSource, is_table
from .text import TextSource

__all__ = ["Broken", "Chunk", "Entry", "Source", "open_sources"]

Reader: TypeAlias = TextSource | TableSource


@dataclass(frozen=True)
class Source:
    """One input and how often its records are taken.

    Attributes:
        name: how problems and manifests call it.
        reader: what cuts and reads it.
        weight: 1 takes every record once, 0.5 every second one, 3 each three times.
    """

    name: str
    reader: Reader
    weight: float = 1.0

    def copies(self, first: int, count: int) -> list[int]:
        """How often each of `count` records from position `first` on is taken.

        Up to position n it is floor(weight x n) in all, so the total is exact whatever the chunks; which records of
        a chunk get the odd copy is drawn, from the positions alone.
        """
        whole = int(self.weight)
        if self.weight == whole:
            return [whole] * count
        extra = int(self.weight * (first + count)) - int(self.weight * first) - whole * count
        chosen = np.random.default_rng(first).permutation(count)[:extra]
        found = np.full(count, whole)
        found[chosen] += 1
        return [int(n) for n in found]


def open_sources(given: Path | str | Sequence[Path | str]) -> list[Source]:
    """The sources named on a command line or in a config, `PATH` or `PATH@WEIGHT` each.

    Raises:
        DataError: one is not there.
        UsageError: a weight is not a positive number, or a source is given twice.
    """
    names = [given] if isinstance(given, (str, Path)) else list(given)
    if not names:
        raise UsageError("no data given: name a LLaVA JSON, a JSONL file or a datasets folder")
    found = [_open(str(name)) for name in names]
    paths = [source.reader.path.resolve() for source in found]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UsageError(f"{twice} is given twice: give it once, with a weight ({twice.name}@2)")
    # The file's name alone where it is enough to tell them apart.
    short = [source.reader.path.name for source in found]
    return [
        source if short.count(name) > 1 else Source(name, source.reader, source.weight)
        for source, name in zip(found, short, strict=True)
    ]


def _open(given: str) -> Source:
    path, weight = Path(given), 1.0
    if not path.exists() and "@" in given:
        head, _, tail = given.rpartition("@")
        try:
            path, weight = Path(head), float(tail)
        except ValueError:
            raise UsageError(f"{given}: what stands after @ is the source's weight, a number") from None
        if not 0 < weight <= 1000:
            raise UsageError(f"{given}: a weight is above 0 and at most 1000")
    if path.is_dir():
        if not is_table(path):
            raise DataError(f"{path} is not a folder that datasets' save_to_disk wrote: give one, or a .json or .jsonl")
        return Source(str(path), TableSource(path), weight)
    if not path.is_file():
        raise DataError(f"cannot read {path} (no such file): give the path of a LLaVA JSON")
    if (other := packed(path)) is not None:
        raise DataError(f"{path} is {other[0]}, not JSON: {other[1]}")
    return Source(str(path), TextSource(path), weight)
