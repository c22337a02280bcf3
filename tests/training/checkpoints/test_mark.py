"""Which checkpoint is the newest that can be trusted: by what stands in the folder, and never by a name in a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from moslora_xtuner.atomic import atomic_json
from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.checkpoints.mark import (
    LAST,
    MARK,
    Mark,
    contents,
    fault_of,
    newest,
    require_newest,
    state_of,
)


def complete(folder: Path, step: int, *, whole: bool = True) -> Path:
    """A checkpoint of two files with its mark, as the hook leaves it; without one when it is not whole."""
    path = folder / f"iter_{step}.pth"
    path.mkdir(parents=True)
    (path / "model.pt").write_bytes(b"model" * step)
    (path / "optimiser.pt").write_bytes(b"optimiser" * step)
    state = state_of(path)
    state.mkdir()
    (state / "random_0.pt").write_bytes(b"random")
    if whole:
        atomic_json(state / MARK, Mark(step, 1, contents(folder, path, state)).as_json())
    (folder / LAST).write_text(str(path.absolute()))
    return path


def test_the_newest_that_is_whole(tmp_path: Path) -> None:
    for step in (4, 8, 16):
        complete(tmp_path, step)
    complete(tmp_path, 32, whole=False)
    found = newest(tmp_path)
    assert found.path == tmp_path / "iter_16.pth"
    assert found.passed == (("iter_32.pth", "it has no mark that it is complete"),)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"iter_4.pth", b"/elsewhere/iter_99.pth", b".", None, b"\n"])
def test_what_last_checkpoint_says_decides_nothing(tmp_path: Path, text: bytes | None) -> None:
    for step in (4, 8):
        complete(tmp_path, step)
    (tmp_path / LAST).unlink() if text is None else (tmp_path / LAST).write_bytes(text)
    assert newest(tmp_path).path == tmp_path / "iter_8.pth"


def test_a_copied_folder_goes_on_from_its_own(tmp_path: Path) -> None:
    complete(tmp_path / "run", 4)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert newest(tmp_path / "copy").path == tmp_path / "copy" / "iter_4.pth"


DAMAGES = {
    "cut": lambda path: (path / "model.pt").write_bytes(b"model"),
    "flipped": lambda path: (path / "model.pt").write_bytes(b"m" + (path / "model.pt").read_bytes()[1:-1] + b"X"),
    "missing": lambda path: (path / "optimiser.pt").unlink(),
    "no folder": lambda path: shutil.rmtree(path) or path.mkdir(),
    "random states missing": lambda path: (state_of(path) / "random_0.pt").unlink(),
    "mark cut": lambda path: (state_of(path) / MARK).write_text("{"),
    "mark of another version": lambda path: (state_of(path) / MARK).write_text('{"format": 99, "files": {}}'),
    "mark without files": lambda path: (state_of(path) / MARK).write_text(
        json.dumps({"format": 1, "step": 8, "processes": 1, "files": {}})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_and_named(tmp_path: Path, damage: str) -> None:
    complete(tmp_path, 4)
    path = complete(tmp_path, 8)
    assert fault_of(path) is None
    DAMAGES[damage](path)
    found = newest(tmp_path)
    assert found.path == tmp_path / "iter_4.pth"
    assert [name for name, _ in found.passed] == ["iter_8.pth"]
    DAMAGES[damage](tmp_path / "iter_4.pth")
    with pytest.raises(TrainingError, match=r"no checkpoint that can be trusted .*--overwrite begins anew"):
        require_newest(tmp_path)


def test_none_at_all_is_no_fault(tmp_path: Path) -> None:
    assert newest(tmp_path).path is None
    assert require_newest(tmp_path).path is None


def test_those_of_mmengines_own_hook(tmp_path: Path) -> None:
    """A file, named by `last_checkpoint` once it is whole; a newer one was cut short."""
    for step in (4, 8, 12):
        (tmp_path / f"iter_{step}.pth").write_bytes(b"weights")
    (tmp_path / LAST).write_text("/anywhere/iter_8.pth")
    assert newest(tmp_path).path == tmp_path / "iter_8.pth"
    (tmp_path / "iter_8.pth").write_bytes(b"")
    assert newest(tmp_path).path == tmp_path / "iter_4.pth"
    (tmp_path / LAST).unlink()
    assert newest(tmp_path).path is None
