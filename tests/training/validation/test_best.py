"""The best adapter stands whole or not at all, is known again by its bytes, and goes along with a checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from text_models import build

from moslora_xtuner.errors import OutputError, TrainingError
from moslora_xtuner.training.validation import best
from moslora_xtuner.training.validation.losses import Loss

FOUND = Loss(40, 1.25)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    best.write(tmp_path / "run", build(), FOUND)
    return tmp_path / "run"


def test_copied_byte_for_byte_and_without_what_is_ours(run: Path, tmp_path: Path) -> None:
    best.put_into(run, tmp_path / "made", FOUND)
    names = {
        path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*") if path.is_file()
    }
    assert {"llm/adapter_model.safetensors", "llm/adapter_config.json"} <= names
    assert not {name for name in names if name.startswith(".") or name == best.FACTS}
    for name in names:
        assert (tmp_path / "made" / name).read_bytes() == (run / best.BEST / name).read_bytes()


def test_the_next_one_takes_its_place(run: Path, tmp_path: Path) -> None:
    before = load_file(run / best.BEST / "llm" / "adapter_model.safetensors")
    best.write(run, build(seed=5), Loss(80, 1.0))
    after = load_file(run / best.BEST / "llm" / "adapter_model.safetensors")
    assert any(bool((before[name] != after[name]).any()) for name in before)
    with pytest.raises(TrainingError, match="it is of iteration 80"):
        best.put_into(run, tmp_path / "made", FOUND)
    best.put_into(run, tmp_path / "made", Loss(80, 1.0))


def cut(folder: Path) -> None:
    file = folder / "llm" / "adapter_model.safetensors"
    content = file.read_bytes()
    file.unlink()  # a checkpoint may have the same file
    file.write_bytes(content[:-1])


def flip(folder: Path) -> None:
    file = folder / "llm" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (cut, "adapter_model.safetensors has other bytes"),
    (flip, "adapter_model.safetensors has other bytes"),
    (lambda folder: (folder / "llm" / "adapter_config.json").unlink(), "adapter_config.json cannot be read"),
    (lambda folder: (folder / best.FACTS).write_text("{"), "best.json cannot be read"),
    (lambda folder: (folder / best.FACTS).write_text("[]"), "best.json cannot be read"),
    (lambda folder: (folder / best.FACTS).write_text('{"step": 40, "files": {}}'), "names no file"),
    (lambda folder: (folder / best.FACTS).write_text('{"format": 9, "step": 40, "files": {"a": 1}}'), "format 9"),
    (shutil.rmtree, "cannot be read"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_what_is_damaged_is_never_taken(damage: Callable[[Path], object], said: str, run: Path, tmp_path: Path) -> None:
    damage(run / best.BEST)
    with pytest.raises(TrainingError, match=rf"lowest validation loss \(iteration 40, 1.25\).*{said}.*keep=last"):
        best.put_into(run, tmp_path / "made", FOUND)


def test_a_checkpoint_brings_its_own_back(run: Path, tmp_path: Path) -> None:
    """Whatever the run has found behind it, and also into another folder."""
    state = tmp_path / "iter_40.state"
    state.mkdir()
    best.put_into_checkpoint(run, state)
    wanted = (run / best.BEST / "llm" / "adapter_model.safetensors").read_bytes()
    best.write(run, build(seed=5), Loss(44, 1.0))
    assert (state / "best" / "llm" / "adapter_model.safetensors").read_bytes() == wanted
    for place in (run, tmp_path / "other"):
        best.take_from_checkpoint(state, place, FOUND)
        best.put_into(place, place / "made", FOUND)
        assert (place / "made" / "llm" / "adapter_model.safetensors").read_bytes() == wanted
    with pytest.raises(TrainingError, match="it is of iteration 40"):
        best.take_from_checkpoint(state, run, Loss(8, 1.0))
    flip(state / "best")
    with pytest.raises(TrainingError, match="has other bytes"):
        best.take_from_checkpoint(state, tmp_path / "third", FOUND)
    assert not (tmp_path / "third" / best.BEST).exists()


def test_nothing_to_put_and_nothing_left(run: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    best.forget(run)
    best.forget(run)
    best.put_into_checkpoint(run, tmp_path / "state")
    assert list((tmp_path / "state").iterdir()) == []


def test_what_cannot_be_written_is_an_error_and_leaves_the_one_before(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(best, "write_parts", full)
    with pytest.raises(OutputError, match="no space left"):
        best.write(run, build(), Loss(80, 1.0))
    assert json.loads((run / best.BEST / best.FACTS).read_text())["step"] == 40
