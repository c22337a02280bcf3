"""Files of other kinds are called by their names."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from moslora_xtuner.data.reading.sources import open_sources
from moslora_xtuner.errors import DataError

PACKED = [
    (b"PAR1\x15\x04", "a Parquet file"), (b"ARROW1\0\0", "an Arrow file"), (gzip.compress(b"[]"), "a gzip file"),
    (b"PK\x03\x04\x14\0", "a zip file"), (bz2.compress(b"[]"), "a bzip2 file"), (lzma.compress(b"[]"), "an xz file"),
    (b"a.json".ljust(257, b"\0") + b"ustar" + bytes(300), "a tar file"),
    (b"SQLite format 3\0", "an SQLite database"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "name"), PACKED, ids=[name for _, name in PACKED])
def test_files_of_other_kinds_are_called_by_their_names(tmp_path: Path, content: bytes, name: str) -> None:
    for file in ("train.json", "train.parquet", "train.jsonl.gz"):
        (tmp_path / file).write_bytes(content)
        with pytest.raises(DataError, match=rf"{file} is {name}, not text: "):
            open_sources(tmp_path / file)
