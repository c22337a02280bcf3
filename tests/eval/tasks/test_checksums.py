"""The record of TSVs: hashed once, changes told, never in the way."""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.tasks import checksums
from moslora_xtuner.eval.tasks.checksums import FILE_NAME, Fetched, Table, check, hashes, record

ABC = hashlib.sha256(b"abc").hexdigest()
ABC_MD5 = "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, A.5


def put(root: Path, content: bytes, name: str = "MME") -> None:
    (root / f"{name}.tsv").write_bytes(content)
    os.utime(root / f"{name}.tsv", ns=(time.time_ns(), time.time_ns()))  # coarse clocks of file systems


def test_hashes(tmp_path: Path) -> None:
    put(tmp_path, b"abc")
    # FIPS 180-2, B.1
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashes(tmp_path / "MME.tsv") == Fetched(sha256, ABC_MD5, 3)


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, b"abc")
    assert check(tmp_path, "MME", ABC_MD5) == Table(ABC, True, False)
    entry = json.loads((tmp_path / FILE_NAME).read_text())["MME"]
    assert (entry["sha256"], entry["md5"], entry["bytes"]) == (ABC, ABC_MD5, 3)
    assert (entry["origin"], entry["is_vlmevalkits"], entry["earlier"]) == ("found here", True, [])
    monkeypatch.setattr(checksums, "hashes", lambda _: pytest.fail("read again"))
    assert check(tmp_path, "MME", ABC_MD5) == Table(ABC, True, False)
    assert check(tmp_path, "MME", "0" * 32) == Table(ABC, False, False)
    assert check(tmp_path, "MME") == Table(ABC, None, False)


def test_a_change_is_told_once_and_what_was_there_stays_known(tmp_path: Path) -> None:
    put(tmp_path, b"abc")
    record(tmp_path, "MME", hashes(tmp_path / "MME.tsv"), "downloaded from http://x/MME.tsv", ABC_MD5)
    put(tmp_path, b"abd")  # of the same size
    assert check(tmp_path, "MME", ABC_MD5) == Table(hashlib.sha256(b"abd").hexdigest(), False, True)
    assert not check(tmp_path, "MME", ABC_MD5).changed
    entry = json.loads((tmp_path / FILE_NAME).read_text())["MME"]
    assert (entry["earlier"], entry["origin"], entry["is_vlmevalkits"]) == ([ABC], "found here", False)


def test_touched_is_not_changed(tmp_path: Path) -> None:
    put(tmp_path, b"abc")
    record(tmp_path, "MME", hashes(tmp_path / "MME.tsv"), "downloaded from http://x/MME.tsv")
    put(tmp_path, b"abc")
    assert check(tmp_path, "MME") == Table(ABC, None, False)
    assert json.loads((tmp_path / FILE_NAME).read_text())["MME"]["origin"] == "downloaded from http://x/MME.tsv"


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MME\.tsv cannot be read"):
        check(tmp_path, "MME")


@pytest.mark.parametrize("spoilt", ["", "[]", '{"MME": {}}', '{"MME": 3}', '{"MME": {"sha256": 1}}', "\0"])
def test_a_spoilt_record_is_made_anew(tmp_path: Path, spoilt: str) -> None:
    put(tmp_path, b"abc")
    (tmp_path / FILE_NAME).write_text(spoilt)
    assert check(tmp_path, "MME") == Table(ABC, None, False)
    assert json.loads((tmp_path / FILE_NAME).read_text())["MME"]["sha256"] == ABC


def test_a_data_root_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, b"abc")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checksums, "atomic_json", refuse)
    assert check(tmp_path, "MME") == Table(ABC, None, False)
    assert os.listdir(tmp_path) == ["MME.tsv"]


def test_two_processes_lose_no_entry(tmp_path: Path) -> None:
    names = [f"T{n}" for n in range(24)]
    for name in names:
        put(tmp_path, name.encode(), name)
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        list(pool.map(check, [tmp_path] * 24, names))
    assert set(json.loads((tmp_path / FILE_NAME).read_text())) == set(names)
