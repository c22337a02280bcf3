"""The pictures of a few questions, from the TSV that was asked and from no other."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moslora_xtuner.hashing import sha256

from ..images import thumbnail
from ..results.scores import Run

LONGEST_SIDE = 256
REFERENCE = 64
"""An `image` cell of at most so many characters is the index of another row, as in VLMEvalKit."""
ROWS_AT_A_TIME = 500
"""A row holds up to megabytes of base64 text, a table gigabytes."""


@dataclass(frozen=True)
class Pictures:
    """Thumbnails (data URIs) by question index, and why there are none or not all."""

    by_index: dict[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class _Cell:
    image: str
    path: str


def load(runs: Sequence[Run], dataset: str, wanted: Sequence[str], budget: int) -> Pictures:
    """The pictures of the wanted questions, in their order, until `budget` characters are spent.

    They come from the TSV that a run's manifest names, if it is still there and has the recorded sha256.
    """
    if not wanted:
        return Pictures()
    path, reason = _table(runs, dataset)
    if path is None:
        return Pictures({}, f"No pictures: {reason}.")
    try:
        cells = _cells(path, wanted)
    except (OSError, ValueError, KeyError) as error:
        return Pictures({}, f"No pictures: {path.name} cannot be read ({type(error).__name__}: {error}).")
    found: dict[str, str] = {}
    spent, left_off, broken = 0, 0, 0
    seen: dict[str, str] = {}
    for index in wanted:
        if index not in cells:
            continue
        if spent > budget:
            left_off += 1
            continue
        try:
            uri = _thumbnail(cells[index], cells, path, seen)
        except (OSError, ValueError, binascii.Error):
            broken += 1
            continue
        if uri:
            found[index] = uri
            spent += len(uri)
    said = [f"Pictures left off to keep the page small: {left_off}."] if left_off else []
    if broken:
        said.append(f"Pictures that cannot be read: {broken}.")
    return Pictures(found, " ".join(said))


def _table(runs: Sequence[Run], dataset: str) -> tuple[Path | None, str]:
    """The TSV that the runs were asked from, or why it cannot be used."""
    reason = "the runs do not record the table of questions"
    for run in runs:
        record = run.manifest.datasets.get(dataset)
        if record is None or record.tsv is None:
            continue
        path = Path(record.tsv)
        try:
            if not path.is_file():
                reason = f"{path} is no longer there"
            elif sha256(path) != record.sha256:
                reason = f"{path} is not the file that was asked (another sha256)"
            else:
                return path, ""
        except OSError as error:
            reason = f"{path} cannot be read ({error})"
    return None, reason


def _cells(path: Path, wanted: Collection[str]) -> dict[str, _Cell]:
    """The picture cells of the wanted rows, and of the rows that they refer to."""
    found = _scan(path, set(wanted).__contains__)
    referred = {cell.image for cell in found.values() if 0 < len(cell.image) <= REFERENCE} - found.keys()
    # A row that is referred to may itself refer to another, once.
    for _ in range(2):
        if not referred:
            break
        more = _scan(path, referred.__contains__)
        found |= more
        referred = {cell.image for cell in more.values() if 0 < len(cell.image) <= REFERENCE} - found.keys()
    return found


def _scan(path: Path, keep: Callable[[str], bool]) -> dict[str, _Cell]:
    import pandas

    columns = {"index", "image", "image_path"}
    chunks = pandas.read_csv(
        path, sep="\t", dtype=str, usecols=columns.__contains__, chunksize=ROWS_AT_A_TIME, keep_default_na=False
    )
    found: dict[str, _Cell] = {}
    with chunks:
        for chunk in chunks:
            for row in chunk[chunk["index"].map(keep).astype(bool)].to_dict("records"):
                found[str(row["index"])] = _Cell(_text(row.get("image")), _text(row.get("image_path")))
    return found


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _thumbnail(cell: _Cell, cells: dict[str, _Cell], path: Path, seen: dict[str, str]) -> str:
    """The cell's picture; `seen` keeps what was made, as rotations of a question share one."""
    for _ in range(2):
        if 0 < len(cell.image) <= REFERENCE and cell.image in cells:
            cell = cells[cell.image]
    source = cell.image or cell.path
    if source not in seen:
        seen[source] = thumbnail(_content(cell, path), LONGEST_SIDE)
    return seen[source]


def _content(cell: _Cell, path: Path) -> bytes | None:
    if cell.image:
        return base64.b64decode(cell.image, validate=True)
    if not cell.path:
        return None
    candidates = (Path(cell.path), path.parent / "images" / path.stem / cell.path, path.parent / cell.path)
    return next((candidate.read_bytes() for candidate in candidates if candidate.is_file()), None)
