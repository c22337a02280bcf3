"""The token store: one Arrow file that every process maps, and a manifest that says what it was made of."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import DataError
from ...hashing import kept_sha256, sha256, tokenizer_hash
from .chat_templates import Loss, require_special_tokens
from .schema import SCHEMA, Rows, decode_rows
from .tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX

KIND = "token store"
MANIFEST = "store.json"
TABLE = "records.arrow"
PROBLEMS = "problems.jsonl"
LOSSES = {"answer": "the answers alone", "all": "prompts and answers"}
FORMAT = 2
"""Of the table's columns; a store of another one is made again."""


@contextmanager
def writing(folder: Path) -> Iterator[pa.RecordBatchFileWriter]:
    """Yields the writer of the store's table."""
    with pa.OSFile(str(folder / TABLE), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        yield writer


def write_rows(writer: pa.RecordBatchFileWriter, rows: Rows) -> pa.RecordBatch:
    """Write rows that another process has encoded; returns them."""
    batch = decode_rows(rows)
    if batch.num_rows:
        writer.write_batch(batch)
    return batch


class Table:
    """The rows of a store, mapped: opening it reads their limits alone, and a row when it is asked for.

    Args:
        path: the Arrow file.

    Raises:
        OSError, ValueError: it is not there, or not an Arrow file of this format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.schema != SCHEMA:
            raise ValueError("columns of another version")
        self.batches = [reader.get_batch(place) for place in range(reader.num_record_batches)]
        self.ends = list(accumulate(batch.num_rows for batch in self.batches))

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # another process maps it itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def column(self, name: str) -> np.ndarray:
        """One column of numbers."""
        place = SCHEMA.get_field_index(name)
        parts = [batch.column(place).to_numpy() for batch in self.batches]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def row(self, index: int) -> dict[str, Any]:
        """One row: id, images, and the ids and labels as arrays that are not copied."""
        index = range(len(self))[index]
        place = bisect.bisect_right(self.ends, index)
        batch = self.batches[place]
        at = index - (self.ends[place] - batch.num_rows)
        return {
            "id": batch.column(0)[at].as_py(),
            "images": batch.column(1)[at].as_py(),
            "input_ids": batch.column(2)[at].values.to_numpy(),
            "labels": batch.column(3)[at].values.to_numpy(),
        }

    def pictures(self) -> list[str]:
        """The records' picture paths, in their order."""
        found: list[str] = []
        for batch in self.batches:
            found += batch.column(1).flatten().to_pylist()
        return found

    def beyond(self, vocabulary: int) -> tuple[int, int] | None:
        """The first row that holds a token which a vocabulary of this size has not, and the token; None without one."""
        start = 0
        for batch in self.batches:
            for column, mark in ((2, IMAGE_TOKEN_INDEX), (3, IGNORE_INDEX)):
                lists = batch.column(column)
                tokens = lists.flatten().to_numpy()
                wrong = (tokens >= vocabulary) | ((tokens < 0) & (tokens != mark))
                if wrong.any():
                    at = int(wrong.argmax())
                    offsets = lists.offsets.to_numpy() - lists.offsets[0].as_py()
                    return start + int(np.searchsorted(offsets, at, side="right")) - 1, int(tokens[at])
            start += batch.num_rows
        return None


def require_tokens(table: Table, vocabulary: int) -> None:
    """Stop when a record has a token that a model with so many embeddings has not.

    Raises:
        DataError: names the first such record.
    """
    if (found := table.beyond(vocabulary)) is not None:
        row, token = found
        raise DataError(
            f"record {row} (id {table.row(row)['id']}) of {table.path.parent} has the token {token}, the model "
            f"{vocabulary} of them: the store was made for another model, or is damaged; prepare it again"
        )


def table_facts(folder: Path) -> dict[str, Any]:
    """Size and hash of a store's table, as its manifest keeps them."""
    file = folder / TABLE
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the store was made of.

    Raises:
        OSError, ValueError: there is none, or it is broken.
    """
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if found.get("format") != FORMAT:
        raise ValueError("made by another version of moslora")
    return found


def read_whole(folder: Path) -> tuple[dict[str, Any], Table]:
    """A store's manifest and its table, whose bytes are those that were written.

    The hash of a large table is kept in the user's cache until its size or time differ. Stores of earlier releases
    have none in their manifest: their rows are counted.

    Raises:
        OSError, ValueError: one is missing, cut or changed.
    """
    manifest = read_manifest(folder)
    table = Table(folder / TABLE)
    if len(table) != manifest.get("records"):
        raise ValueError(f"{TABLE} has {len(table)} rows, its manifest says {manifest.get('records')}")
    if (written := manifest.get("table")) is not None:
        size = (folder / TABLE).stat().st_size
        if size != written["bytes"]:
            raise ValueError(f"{TABLE} has {size} bytes of {written['bytes']}")
        if kept_sha256(folder / TABLE) != written["sha256"]:
            raise ValueError(f"{TABLE} has other bytes than were written")
    return manifest, table


def open_store(
    folder: Path, image_root: Path, tokenizer: Any = None, template: str | None = None, loss: Loss | None = None
) -> tuple[dict[str, Any], Table]:
    """A store's manifest and its table, mapped into memory, after a look at what it was made for.

    Raises:
        DataError: the store is missing, unfinished, damaged, or made with another tokenizer, template or loss, its
            image folder is not there, or the tokenizer lacks the template's special tokens.
    """
    try:
        manifest, table = read_whole(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise DataError(
            f"no token store in {folder} ({fault}): make it with `moslora data prepare JSON --images DIR "
            f"--model LLM_DIR -o {folder}`"
        ) from fault
    if tokenizer is not None and tokenizer_hash(tokenizer) != manifest["tokenizer"]:
        raise DataError(f"the token store {folder} was made with another tokenizer: prepare it again")
    if tokenizer is not None and template is not None:
        require_special_tokens(tokenizer, template)
    if template is not None and template != manifest["template"]:
        raise DataError(
            f"the token store {folder} was made with template {manifest['template']}, "
            f"the config says {template}: prepare it again"
        )
    if loss is not None and loss != (made := manifest.get("loss", "answer")):
        raise DataError(
            f"the token store {folder} has its loss on {LOSSES[made]}, the config says {loss!r}: prepare it again"
        )
    if not image_root.is_dir() and manifest["text_only"] < manifest["records"]:
        raise DataError(f"the image folder {image_root} does not exist")
    return manifest, table
