"""Output folders: never lose what is not ours, go on with what is, leave no half file."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from moslora_xtuner import atomic, output
from moslora_xtuner.errors import DiskFull, OutputError


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_claim_makes_and_marks_a_new_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert output.claim(folder, "eval", {"seed": 3, "root": Path("x")}) is False
    mark = json.loads((folder / ".moslora.json").read_text())
    assert mark["kind"] == "eval"
    assert mark["settings"] == {"seed": 3, "root": "x"}


def test_claim_goes_on_with_the_same_work(tmp_path: Path) -> None:
    settings = {"shape": (1, 2), "root": Path("x")}
    output.claim(tmp_path / "run", "eval", settings)
    (tmp_path / "run" / "half.jsonl").write_text("kept")
    assert output.claim(tmp_path / "run", "eval", settings) is True
    assert (tmp_path / "run" / "half.jsonl").read_text() == "kept"


def test_claim_takes_an_empty_folder(tmp_path: Path) -> None:
    assert output.claim(tmp_path, "eval") is False


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [("train", {"seed": 0}, "holds 'eval', not 'train'"), ("eval", {"seed": 1}, "seed was 0, is 1")],
)
def test_claim_refuses_other_work(tmp_path: Path, kind: str, settings: dict[str, int], words: str) -> None:
    output.claim(tmp_path, "eval", {"seed": 0})
    before = everything(tmp_path)
    with pytest.raises(OutputError, match=words):
        output.claim(tmp_path, kind, settings)
    assert everything(tmp_path) == before


def _enter(folder: Path) -> None:
    with output.atomic_folder(folder):
        pytest.fail("entered the block")


@pytest.mark.parametrize("act", [lambda folder: output.claim(folder, "eval"), _enter])
def test_what_is_not_ours_is_refused_and_kept(tmp_path: Path, act: Callable[[Path], object]) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("three years of work")
    before = everything(tmp_path)
    with pytest.raises(OutputError, match="not made by moslora"):
        act(folder)
    assert everything(tmp_path) == before


def test_a_foreign_marker_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".moslora.json").write_text("{ torn")
    with pytest.raises(OutputError, match="is not JSON"):
        output.claim(tmp_path, "eval")
    (tmp_path / ".moslora.json").write_text("[1]")
    with pytest.raises(OutputError, match="not written by moslora"):
        output.claim(tmp_path, "eval")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        output.claim(tmp_path / "file", "eval")
    with pytest.raises(OutputError, match="is a file"):
        output.claim(tmp_path / "file" / "below", "eval")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "no permission"),
        (errno.EROFS, "no permission"),
        (errno.ENOSPC, "no space left"),
        (errno.EIO, "cannot write"),
    ],
)
def test_faults_of_the_disk_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "x").write_text("old")
    monkeypatch.setattr(os, "fsync", fail)  # a full or read-only disk cannot be had here
    with pytest.raises(OutputError, match=words):
        atomic.atomic_write(tmp_path / "x", "new")
    assert everything(tmp_path) == {"x": b"old"}


def test_atomic_write_writes_utf8_and_leaves_nothing_else(tmp_path: Path) -> None:
    atomic.atomic_write(tmp_path / "x", "数字\n")
    atomic.atomic_write(tmp_path / "y", b"\x00\xff")
    assert everything(tmp_path) == {"x": b"\xe6\x95\xb0\xe5\xad\x97\n", "y": b"\x00\xff"}


def _write_for_ever(path: Path) -> None:
    for turn in range(10**9):
        atomic.atomic_write(path, str(turn % 10) * 200_000)


def test_a_killed_write_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    output.claim(tmp_path, "eval")
    atomic.atomic_write(path, "0" * 200_000)
    for wait in (0.05, 0.08, 0.13):
        writer = multiprocessing.get_context("fork").Process(target=_write_for_ever, args=(path,))
        writer.start()
        writer.join(wait)
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        text = path.read_text()
        assert len(text) == 200_000
        assert len(set(text)) == 1
    output.remove_partial(tmp_path)
    assert sorted(everything(tmp_path)) == [".moslora.json", "x"]


def test_remove_partial_touches_only_folders_of_ours(tmp_path: Path) -> None:
    (tmp_path / ".x.partial-1").write_text("somebody's")
    with pytest.raises(OutputError, match="not made by moslora"):
        output.remove_partial(tmp_path)
    assert everything(tmp_path) == {".x.partial-1": b"somebody's"}


def test_atomic_folder_appears_only_when_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "model"
    with output.atomic_folder(final, "export") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_text("w")
        assert not final.exists()
    assert (final / "sub" / "weights").read_text() == "w"
    assert os.listdir(final.parent) == ["model"]
    mark = output.marker(final)
    assert mark is not None
    assert mark["kind"] == "export"


def _write_half(final: Path) -> None:
    with output.atomic_folder(final) as folder:
        (folder / "w").write_text("second")
        raise ValueError("half-way")


def test_atomic_folder_replaces_its_own_and_keeps_it_on_failure(tmp_path: Path) -> None:
    final = tmp_path / "model"
    with output.atomic_folder(final) as folder:
        (folder / "w").write_text("first")
    with pytest.raises(ValueError, match="half-way"):
        _write_half(final)
    assert (final / "w").read_text() == "first"
    assert os.listdir(tmp_path) == ["model"]
    with output.atomic_folder(final) as folder:
        (folder / "v").write_text("third")
    assert sorted(everything(final)) == [".moslora.json", "v"]


def test_atomic_folder_hides_no_fault_of_the_block(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), output.atomic_folder(tmp_path / "x"):
        (tmp_path / "missing input").read_text()
    full = OSError(errno.ENOSPC, "full")
    with pytest.raises(OutputError, match="no space left"), output.atomic_folder(tmp_path / "x"):
        raise full
    assert os.listdir(tmp_path) == []


def test_need_space_counts_the_disk_of_a_folder_to_come(tmp_path: Path) -> None:
    output.need_space(tmp_path / "not" / "yet", 0.0)
    with pytest.raises(OutputError, match="GB needed"):
        output.need_space(tmp_path / "not" / "yet", 1e9)


def fail(fault: Exception, cause: Exception | None = None) -> None:
    raise fault from cause


def test_a_library_that_finds_the_disk_full_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    for fault, cause in ((full, None), (RuntimeError(full), None), (KeyError("result"), full)):
        with pytest.raises(DiskFull, match="no space left for"), output.room_in(tmp_path):
            fail(fault, cause)
    for other in (OutputError("mine"), ValueError("other")):
        with pytest.raises(type(other), match=str(other)), output.room_in(tmp_path):
            fail(other)
    monkeypatch.setattr(output, "free_gb", lambda folder: 0.0)  # nobody says it, but so it is
    with pytest.raises(DiskFull), output.room_in(tmp_path):
        fail(EOFError("Ran out of input"))
