"""The pictures of a table, each decoded once: by their index, whatever will answer."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from moslora_xtuner.errors import DataError

from .. import pictures
from ..tsv import NOTHING, Tsv
from .finding import Finding, Weight

MOST_AT_ONCE = 8
"""Pictures that are decoded at a time: the largest that is taken has 268 MB."""


def sources(table: Tsv) -> list[str]:
    """Each row's cell `image` with references followed to the row that holds the picture; "" where there is none.

    In VLMEvalKit's order (image_base.py): a reference leads to a picture, or to a row before that leads to one.
    """
    cells = [cell if cell.strip() not in NOTHING else "" for cell in table.column("image")]
    held = dict(zip(table.column("index"), cells, strict=True))
    for index, cell in held.items():
        if cell and len(cell) <= pictures.REFERENCE:
            other = held.get(cell.strip(), "")
            held[index] = other if len(other) > pictures.REFERENCE else ""
    return [
        held[index] if len(cell) <= pictures.REFERENCE and cell else cell
        for index, cell in zip(table.column("index"), cells, strict=True)
    ]


def check(table: Tsv, called: Sequence[str], path_of: Callable[[str], Path]) -> Iterator[Finding]:
    """Pictures that are missing, that no row holds, or that cannot be decoded whole.

    Args:
        path_of: finds the file of an `image_path`. May raise ValueError.
    """
    cells, paths = table.column("image"), table.column("image_path")
    held = sources(table)
    users: dict[tuple[str, str], list[int]] = {}
    for row, (cell, source, path) in enumerate(zip(cells, held, paths, strict=True)):
        if source:
            users.setdefault(("image", source), []).append(row)
        elif cell.strip() not in NOTHING:
            yield Finding(
                row,
                called[row],
                "image",
                f"{cell.strip()!r} is neither a picture nor the index of a row that holds one",
            )
        elif path.strip() not in NOTHING:
            users.setdefault(("image_path", path), []).append(row)
        else:
            column = "image" if "image" in table.cells else "image_path"
            yield Finding(row, called[row], column, "no picture")

    def fault(use: tuple[str, str]) -> str | None:
        column, source = use
        try:
            content = pictures.decode(source) if column == "image" else path_of(source).read_bytes()
            pictures.check(content)
        except (ValueError, OSError, DataError) as found:
            return str(found).rstrip(".")
        return None

    # Opening a picture sets the warnings' filters and puts them back, which threads would do out of turn.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(MOST_AT_ONCE, os.cpu_count() or 1)) as threads:
        for use, why in zip(users, threads.map(fault, users), strict=True):
            if why is None:
                continue
            for row in users[use]:
                where = "image" if cells[row].strip() else use[0]
                yield Finding(row, called[row], where, why, Weight.FAULT)
