"""A folder written by `save_to_disk` of Hugging Face `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ....errors import DataError
from ....hashing import sha256
from ...problem_kinds import Kind
from .chunks import Broken, Chunk, Entry
from .json_array import Span

_MARKS = ("state.json", "dataset_dict.json")


def is_table(path: Path) -> bool:
    """Whether `datasets` wrote this folder."""
    return any((path / mark).is_file() for mark in _MARKS)


class TableSource:
    """A dataset, or the split `train` of several.

    Columns are LLaVA's keys (id, image, conversations); an empty cell is a key that is not there, since every row of
    a table has all columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # a worker maps the table itself

    @cached_property
    def table(self) -> Any:
        """The mapped dataset.

        Raises:
            DataError: it cannot be read, has no split `train`, or holds pictures instead of their paths.
        """
        import datasets

        try:
            found = datasets.load_from_disk(str(self.path))
        except Exception as fault:  # it raises whatever the broken file makes pyarrow or json raise
            raise DataError(f"{self.path} is no dataset that can be read ({fault}): write it again") from fault
        if isinstance(found, datasets.DatasetDict):
            if "train" not in found:
                raise DataError(f"{self.path} has the splits {', '.join(found)}: give the folder of one of them")
            found = found["train"]
        for name, feature in found.features.items():
            inner = getattr(feature, "feature", feature)
            if isinstance(inner, datasets.Image):
                raise DataError(
                    f"{self.path}: the column {name} holds pictures: write them to files and their paths to the column"
                )
        return found

    def chunks(self, size: int) -> Iterator[Chunk]:
        """`size` rows at a time.

        Raises:
            DataError: as `table`.
        """
        rows = len(self.table)
        for start in range(0, rows, size):
            yield Chunk(start, (Span(start, min(start + size, rows)),))

    def read(self, chunk: Chunk) -> Iterator[Entry]:
        """The rows."""
        span = chunk.spans[0]
        for position in range(span.start, span.end):
            try:
                row = self.table[position]
            except Exception as fault:  # a row whose bytes are broken; pyarrow raises its own types
                yield Entry(position, None, Broken(Kind.NOT_AN_OBJECT, f"the row cannot be read ({fault})"))
                continue
            yield Entry(position, None, {key: _plain(value) for key, value in row.items() if value is not None})

    def size_hint(self) -> int:
        """Rows."""
        return len(self.table)

    def progress(self, chunk: Chunk) -> int:
        """Rows up to the chunk's end."""
        return chunk.spans[0].end

    def sha256(self) -> str:
        """Of the data files' bytes, in the order of their names."""
        return sha256(*sorted(self.path.rglob("*.arrow")))


def _plain(value: Any) -> Any:
    """Messages as a list of objects: a sequence of structs comes out as one struct of lists."""
    if isinstance(value, dict) and value and all(isinstance(part, list) for part in value.values()):
        return [dict(zip(value, parts, strict=False)) for parts in zip(*value.values(), strict=False)]
    return value
