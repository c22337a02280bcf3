"""When a validation is due, which adapter is kept, and that a resumed run chooses as one that nothing happened to."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from text_models import build
from validated import made_up, runner

from moslora_xtuner.errors import ConfigError, DataError, TrainingError
from moslora_xtuner.training.checkpoints.save import Checkpoints
from moslora_xtuner.training.validation import hook as place
from moslora_xtuner.training.validation.hook import Validation, validation_of
from moslora_xtuner.training.watch import Watchdog

LOSSES = (5.0, 3.0, math.nan, 3.0)
"""At 2, 4, 6 and 8 of eight iterations."""


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The dataset that a hook builds: made up, with this manifest."""
    manifest: dict[str, Any] = {}

    def built(settings: dict[str, Any]) -> Any:
        found = made_up(4)
        found.manifest = manifest | {"built": settings}
        return found

    monkeypatch.setattr(place.DATASETS, "build", built)
    return manifest


def losing(monkeypatch: pytest.MonkeyPatch, losses: Sequence[float]) -> None:
    left = iter(losses)
    monkeypatch.setattr(place, "mean_loss", lambda *_: next(left))


def marked(model: Any, step: int) -> None:
    """Give the adapter weights that say of which step they are."""
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            weight.data.fill_(step)


def trained(made: Any, hook: Validation, start: int, stop: int) -> None:
    hook.before_train(made)
    for step in range(start, stop):
        made.iter = step
        marked(made.model, step + 1)
        hook.after_train_iter(made, step)
    made.iter = stop


def step_of(folder: Path) -> float:
    weights = load_file(folder / "llm" / "adapter_model.safetensors")
    (found,) = {float(w.min()) for n, w in weights.items() if "lora_A" in n}
    return found


def hook(**options: Any) -> Validation:
    return Validation(data="store", **{"keep": "best", **options})


def test_due_with_the_checkpoints_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(found: Validation, **settings: Any) -> list[int]:
        losing(monkeypatch, [1.0] * 20)
        trained(runner(build(), tmp_path, [Checkpoints(), found], **settings), found, 0, settings.get("total", 8))
        return [loss.step for loss in found.losses]

    assert steps(hook()) == [2, 4, 6, 8]  # the checkpoints' interval
    assert steps(hook(interval=3)) == [3, 6, 8]
    assert steps(hook(interval=-1)) == [8]
    # In the middle of an accumulation nothing is whole: the first step that is, and what is left over at the end.
    assert steps(hook(interval=3), total=10, accumulation=4) == [4, 8, 10]
    assert steps(Validation(), total=4) == []


def test_the_best_is_kept_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lowest number; no NaN; of two alike the earlier."""
    losing(monkeypatch, LOSSES)
    found = hook()
    made = runner(build(), tmp_path, [Checkpoints(), found])
    trained(made, found, 0, 8)
    assert found.kept is not None
    assert (found.kept.step, found.kept.loss) == (4, 3.0)
    assert step_of(tmp_path / ".best") == 4
    assert found.told() == {
        "records": 4, "interval": 2, "times": 4, "keep": "best", "step": 4, "loss": 3.0,
        "losses": [[2, 5.0], [4, 3.0], [6, None], [8, 3.0]],
    }  # fmt: skip
    assert made.scalars == [{"val_loss": 5.0, "step": 2}, {"val_loss": 3.0, "step": 4}, {"val_loss": 3.0, "step": 8}]
    lines = capsys.readouterr().err.splitlines()
    assert "after iteration 2 of 8: loss 5.0000 over 4 records, the lowest so far" in lines[0]
    assert "after iteration 4 of 8: loss 3.0000 over 4 records, the lowest so far" in lines[1]
    assert "after iteration 6 of 8: the loss over 4 records is no finite number; it is never the best" in lines[2]
    assert "after iteration 8 of 8: loss 3.0000 over 4 records, the lowest is 3.0000 (4)" in lines[3]
    assert validation_of(made) is found


def test_the_last_is_kept_unless_the_best_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losing(monkeypatch, LOSSES)
    found = hook(keep="last")
    trained(runner(build(), tmp_path, [found]), found, 0, 8)
    assert found.kept is None
    assert (found.told()["step"], found.told()["loss"]) == (8, 3.0)
    assert not (tmp_path / ".best").exists()


@pytest.mark.parametrize("stop", [2, 3, 4, 5, 6, 7])
def test_resumed_it_chooses_the_same(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the interrupted run had found a better one behind its checkpoint, which is not come by again."""
    losing(monkeypatch, LOSSES)
    before = hook()
    trained(runner(build(), tmp_path, [Checkpoints(), before]), before, 0, stop)
    state = tmp_path / f"iter_{stop}.state"
    state.mkdir()
    before.write_state(state)
    known = list(before.losses)
    losing(monkeypatch, [0.5] * 9)  # of a future that there will not be
    before.seen = stop
    for step in range(stop, 8):
        made = runner(build(), tmp_path, [Checkpoints(), before], done=step)
        marked(made.model, 99)
        before.after_train_iter(made, step)
    assert step_of(tmp_path / ".best") == 99
    after = hook()
    losing(monkeypatch, LOSSES[len(known) :])
    made = runner(build(), tmp_path, [Checkpoints(), after], done=stop)
    after.before_train(made)
    after.read_state(state)
    assert after.losses == known
    for step in range(stop, 8):
        made.iter = step
        marked(made.model, step + 1)
        after.after_train_iter(made, step)
    assert [loss.step for loss in after.losses] == [2, 4, 6, 8]
    assert after.kept is not None
    assert after.kept.step == 4
    assert step_of(tmp_path / ".best") == 4


def test_a_run_that_begins_has_nothing_of_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losing(monkeypatch, [1.0])
    found = hook()
    trained(runner(build(), tmp_path, [Checkpoints(), found]), found, 0, 2)
    again = hook()
    again.before_train(runner(build(), tmp_path, [Checkpoints(), again]))
    assert not (tmp_path / ".best").exists()


def test_no_number_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losing(monkeypatch, [math.nan] * 4)
    found = hook()
    trained(runner(build(), tmp_path, [Checkpoints(), found]), found, 0, 8)
    with pytest.raises(TrainingError, match=r"no validation loss was a finite number.*keep=last"):
        _ = found.kept


def test_what_a_resumed_run_cannot_know_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losing(monkeypatch, [2.0, 1.0])
    before = hook(keep="last")
    trained(runner(build(), tmp_path, [before]), before, 0, 4)
    before.write_state(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"validation.json"}

    def resumed(keep: str) -> Validation:
        after = hook(keep=keep)
        after.before_train(runner(build(), tmp_path, [Checkpoints(), after], done=4))
        return after

    with pytest.raises(ConfigError, match="kept its last adapter, so that the best is not there"):
        resumed("best").read_state(tmp_path)
    after = resumed("last")
    after.read_state(tmp_path)
    assert after.losses == before.losses
    (tmp_path / "validation.json").write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        resumed("last").read_state(tmp_path)
    (tmp_path / "validation.json").write_text(json.dumps({"format": 7}))
    with pytest.raises(TrainingError, match="format 7"):
        resumed("last").read_state(tmp_path)
    (tmp_path / "validation.json").unlink()
    with pytest.raises(ConfigError, match="does not say which validation losses there were"):
        resumed("best").read_state(tmp_path)
    capsys.readouterr()
    resumed("last").read_state(tmp_path)
    assert "those from here on are known" in capsys.readouterr().err


def test_from_the_best_to_the_last_on_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losing(monkeypatch, [2.0, 1.0])
    before = hook()
    trained(runner(build(), tmp_path, [Checkpoints(), before]), before, 0, 4)
    state = tmp_path / "iter_4.state"
    state.mkdir()
    before.write_state(state)
    after = hook(keep="last")
    after.before_train(runner(build(), tmp_path, [Checkpoints(), after], done=4))
    after.read_state(state)
    assert after.kept is None
    assert not (tmp_path / ".best").exists()


def test_what_makes_no_sense_is_refused(tmp_path: Path, store: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="keep is 'first'"):
        Validation(keep="first")  # type: ignore[arg-type]
    found = hook()
    with pytest.raises(ConfigError, match="the checkpoints would not hold it"):
        found.before_train(runner(build(), tmp_path, [found]))
    made = runner(build(), tmp_path, [Checkpoints(), found])
    store["loss"] = "all"
    with pytest.raises(DataError, match=r"training's store has its loss on 'answer', .*'all'.*--loss answer"):
        found.before_train(made)
    made.cfg.train_dataloader.dataset.type = "xtuner.dataset.LLaVADataset"
    with pytest.raises(ConfigError, match="TokenStore"):
        found.before_train(made)


def test_nobody_takes_it_for_a_process_that_hangs(tmp_path: Path) -> None:
    """A batch of a validation counts as a step."""
    watch = Watchdog()
    found = hook()
    made = runner(build(), tmp_path, [watch, Checkpoints(), found], done=1)
    found.before_train(made)
    found.seen, watch._last = 0, -1.0
    with torch.no_grad():
        found.after_train_iter(made, 1)
    assert watch._last > 0
    assert found.losses[0].loss is not None
    assert validation_of(runner(build(), tmp_path, [Validation()])) is None
