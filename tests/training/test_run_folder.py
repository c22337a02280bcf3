"""A run's folder: one writer at a time, and nothing that is finished lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from moslora_xtuner.errors import OutputError
from moslora_xtuner.training.artifacts import ADAPTERS, MANIFEST
from moslora_xtuner.training.run_folder import drop_replaced, hold, is_held, require_free, require_new, set_aside

HOLDING = """
import sys, time
from pathlib import Path
from moslora_xtuner.training.run_folder import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_has_one_writer_until_that_ends(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert is_held(tmp_path)
        for act in (require_free, hold):
            with pytest.raises(OutputError, match=rf"written by another training \(process {other.pid}\)"):
                act(tmp_path)
        other.kill()
        other.wait()
    require_free(tmp_path)
    assert not is_held(tmp_path)


def finished(folder: Path) -> Path:
    (folder / ADAPTERS).mkdir(parents=True)
    (folder / ADAPTERS / MANIFEST).write_text("{}")
    return folder


def unfinished(folder: Path) -> Path:
    (folder / "iter_4.pth").mkdir(parents=True)
    (folder / "iter_4.state").mkdir()
    return folder


def test_a_finished_run_is_kept(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"holds a finished run: --overwrite trains again"):
            require_new(folder, resume=resume, overwrite=False)
    require_new(folder, resume=False, overwrite=True)
    assert (folder / ADAPTERS / MANIFEST).is_file()


def test_an_unfinished_run_asks_what_is_to_become_of_it(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "run")
    with pytest.raises(OutputError, match=r"unfinished run \(iter_4.pth\): --resume auto goes on, --overwrite"):
        require_new(folder, resume=False, overwrite=False)
    require_new(folder, resume=True, overwrite=False)
    require_new(folder, resume=False, overwrite=True)
    require_new(tmp_path / "new", resume=False, overwrite=False)


def test_overwritten_checkpoints_are_kept_aside_until_the_new_run_is_whole(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "run")
    set_aside(folder)
    assert not list(folder.glob("iter_*"))
    assert sorted(path.name for path in (folder / ".replaced").iterdir()) == ["iter_4.pth", "iter_4.state"]
    unfinished(folder)
    set_aside(folder)  # once more: what was aside already is the older one
    drop_replaced(folder)
    assert not (folder / ".replaced").exists()
