"""Files of other kinds are called by their names, whatever theirs is and however much of them is there."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sqlite3
import tarfile
import zipfile
from functools import lru_cache
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from bad_cases import sound, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moslora_xtuner.data.reading.sources import open_sources
from moslora_xtuner.errors import DataError

RECORDS = [sound(f"r{n}", "a.png") for n in range(20)]
TEXT = json.dumps(RECORDS).encode()
NAMES = {
    "parquet": "a Parquet file", "arrow": "an Arrow file", "stream": "an Arrow stream", "feather": "a Feather file",
    "gz": "a gzip file", "zip": "a zip file", "tar": "a tar file", "bz2": "a bzip2 file", "xz": "an xz file",
    "xlsx": "an Excel workbook", "csv": "a table in text", "tsv": "a table in text", "sqlite": "an SQLite database",
    "html": "a web page", "lfs": "a pointer of Git LFS",
}  # fmt: skip


@lru_cache
def content(kind: str) -> bytes:
    """The records, or what stands for them, as a real program of that kind writes them."""
    table = pyarrow.table({"id": [r["id"] for r in RECORDS], "text": [json.dumps(r) for r in RECORDS]})
    out = io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, out)
    elif kind in ("arrow", "stream"):
        new = pyarrow.ipc.new_file if kind == "arrow" else pyarrow.ipc.new_stream
        with new(out, table.schema) as writer:
            writer.write_table(table)
    elif kind == "feather":
        pyarrow.feather.write_feather(table, out, version=1)
    elif kind == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("train.json", TEXT)
    elif kind == "tar":
        with tarfile.open(fileobj=out, mode="w") as bundle:
            entry = tarfile.TarInfo("train.json")
            entry.size = len(TEXT)
            bundle.addfile(entry, io.BytesIO(TEXT))
    elif kind == "xlsx":
        table.to_pandas().to_excel(out, index=False)
    elif kind in ("csv", "tsv"):
        table.to_pandas().to_csv(out, index=False, sep="," if kind == "csv" else "\t")
    elif kind == "sqlite":
        with sqlite3.connect(":memory:") as base:
            base.execute("create table records (id text)")
        return base.serialize() if hasattr(base, "serialize") else b"SQLite format 3\0".ljust(4096, b"\0")
    else:
        packed = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
        texts = {"html": b"\n<!DOCTYPE html><title>Not found</title>",
                 "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"}  # fmt: skip
        return packed[kind](TEXT) if kind in packed else texts[kind]
    return out.getvalue()


@pytest.mark.parametrize("kind", NAMES)
def test_files_of_other_kinds_are_called_by_their_names(tmp_path: Path, kind: str) -> None:
    whole = content(kind)
    for file in ("train.json", "train.jsonl", f"train.{kind}", "train"):
        for length in (len(whole), len(whole) // 2, 300, *([40] if kind != "tar" else [])):
            (tmp_path / file).write_bytes(whole[:length])
            with pytest.raises(DataError) as fault:
                open_sources(tmp_path / file)
            # A workbook is a zip file until a name in it says more.
            name = "a zip file" if kind == "xlsx" and length <= 300 else NAMES[kind]
            assert f"{file} is {name}" in str(fault.value)
            assert "\n" not in str(fault.value)


FILES = ["a.json", "a.jsonl", "a.bin"]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from([*NAMES, "json"]), name=st.sampled_from(FILES), seed=st.integers(0, 10**9))
def test_whatever_happened_to_a_file_it_is_read_or_refused_in_a_line(
    tmp_path: Path, kind: str, name: str, seed: int
) -> None:
    dice = random.Random(seed)
    raw = bytearray(TEXT if kind == "json" else content(kind))
    for _ in range(dice.randint(0, 3)):
        raw[dice.randrange(dice.choice([8, len(raw)]))] = dice.randrange(256)
    (tmp_path / name).write_bytes(raw[: dice.randint(0, len(raw))] if dice.random() < 0.5 else raw)
    positions, said = [], f"{tmp_path / name} is read"
    try:
        (source,) = open_sources(tmp_path / name)
        positions = [entry.position for chunk in source.reader.chunks(5) for entry in source.reader.read(chunk)]
    except DataError as fault:
        said = str(fault)
    assert positions == sorted(positions)
    assert str(tmp_path / name) in said
    assert "\n" not in said


@pytest.mark.parametrize("first", ['"id", "image"', '{"id": 1, "a": 2}', "r0, r1", '"a": "b", "c": "d"'])
def test_lines_that_are_broken_at_their_beginning_are_no_table(tmp_path: Path, first: str) -> None:
    source = write(tmp_path / "a.jsonl", [first, sound("r1"), sound("r2")])
    (found,) = open_sources(source)
    entries = [entry for chunk in found.reader.chunks(5) for entry in found.reader.read(chunk)]
    assert [entry.raw["id"] for entry in entries[1:]] == ["r1", "r2"]
