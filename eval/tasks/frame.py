"""A table of texts as the frame that VLMEvalKit's classes take: its types, its missing values, one picture a row."""

from __future__ import annotations

import base64
import math
import string
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError

from . import pictures
from .checking.images import sources
from .tsv import NOTHING, Tsv

TEXTS = ("index", "question", "answer", "hint", "category", "l2-category", "image", "image_path")
"""Columns whose cells stay texts; the types of all others are those that pandas finds.

pandas would make 3.0 of the option 3 in a column with gaps, and the model would be asked about "3.0".
"""
_WORDS = ("question", "answer")
"""Columns of which a cell None or NA is that word: asked and compared as it stands."""


def frame_of(table: Tsv, path_of: Callable[[str], Path], *, words: bool = False, typed: Sequence[str] = ()) -> Any:
    """The frame.

    A picture stands in each row's `image`, also where the table has a reference, broken lines, a data URI, or, in this
    row alone, a path: VLMEvalKit leaves out rows whose `image` is empty.

    Args:
        path_of: finds the file of an `image_path`. May raise ValueError.
        words: whether options None, NA or null are texts, too.
        typed: columns of TEXTS that pandas shall type all the same.

    Raises:
        DataError: a cell of `image` is neither a picture nor the index of a row that holds one.
    """
    import pandas

    kept = (*_WORDS, *(string.ascii_uppercase if words else ""))
    texts = {*TEXTS, *string.ascii_uppercase} - {*typed}
    by_pandas = _typed(table, [name for name in table.columns if name not in texts])
    columns: dict[str, Any] = {}
    for name in table.columns:
        if name in by_pandas:
            columns[name] = by_pandas[name]
        elif name == "image":
            columns[name] = pandas.Series(_pictures(table, path_of), dtype=object)
        else:
            cells = [
                math.nan if not cell or (name not in kept and cell in NOTHING) else cell for cell in table.cells[name]
            ]
            columns[name] = pandas.Series(cells, dtype=object)
    return pandas.DataFrame(columns)


def _pictures(table: Tsv, path_of: Callable[[str], Path]) -> list[Any]:
    found: list[Any] = []
    rows = zip(table.column("index"), table.cells["image"], sources(table), table.column("image_path"), strict=True)
    for index, cell, source, path in rows:
        if source:
            found.append(pictures.plain(source))
        elif cell.strip() not in NOTHING:
            raise DataError(
                f"{table.path}, index {index}: the cell image, {cell!r}, is neither a picture nor the index of a row "
                "that holds one."
            )
        else:
            found.append(_file(path, path_of) if path.strip() not in NOTHING else math.nan)
    return found


def _file(path: str, path_of: Callable[[str], Path]) -> Any:
    try:
        return base64.b64encode(path_of(path).read_bytes()).decode()
    except (OSError, ValueError):
        return math.nan  # a picture that is not there; the look at the table has said so


def _typed(table: Tsv, names: list[str]) -> dict[str, Any]:
    """The columns as pandas types them."""
    import pandas

    if not names:
        return {}
    stream = StringIO()
    pandas.DataFrame({name: table.cells[name] for name in names}, columns=names).to_csv(stream, index=False)
    stream.seek(0)
    found = pandas.read_csv(stream, skip_blank_lines=False, low_memory=False)
    return {name: found[name] for name in names}
