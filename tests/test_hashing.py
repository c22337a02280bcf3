"""Hashes of files: whole, and of large ones kept until the file changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from moslora_xtuner import hashing
from moslora_xtuner.hashing import kept_sha256, sha256


def test_the_hash_of_several_is_that_of_their_bytes(tmp_path: Path) -> None:
    for name, content in (("a", b"1" * 3_000_000), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
    assert sha256(tmp_path / "a", tmp_path / "b") == hashlib.sha256(b"1" * 3_000_000 + b"2").hexdigest()


def test_a_large_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOSLORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashing, "LARGE", 10)
    path, read = tmp_path / "weights", []

    def noting(*paths: Path) -> str:
        read.append(paths)
        return sha256(*paths)

    monkeypatch.setattr(hashing, "sha256", noting)
    for content in (b"x" * 20, b"x" * 19 + b"y", b"x" * 21):
        path.write_bytes(content)
        os.utime(path, ns=(len(read) + 1, len(read) + 1))
        for _ in range(2):
            assert kept_sha256(path) == hashlib.sha256(content).hexdigest()
    assert len(read) == 3
    (kept,) = (tmp_path / "cache" / "hashes").iterdir()
    kept.write_text("{")  # a spoilt cache is no obstacle
    assert kept_sha256(path) == hashlib.sha256(b"x" * 21).hexdigest()
    monkeypatch.setenv("MOSLORA_CACHE", str(path))  # nor one that cannot be written
    assert kept_sha256(path) == hashlib.sha256(b"x" * 21).hexdigest()
    assert len(read) == 5
