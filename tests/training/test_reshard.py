"""Runs that go on with another number of processes end in the weights of one that nothing happened to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from text_models import build

from moslora_xtuner.atomic import atomic_json
from moslora_xtuner.errors import ConfigError, OutputError, TrainingError
from moslora_xtuner.training.artifacts import ADAPTERS, LLM
from moslora_xtuner.training.checkpoints.mark import MARK, Mark, checkpoints, contents, newest, state_of
from moslora_xtuner.training.launch import train
from moslora_xtuner.training.reshard import reshard
from moslora_xtuner.training.validation import best
from moslora_xtuner.training.validation.losses import Loss, as_json, from_json

GROUP = "train_dataloader.sampler.per_device_batch_size"


def marked(folder: Path, processes: int = 2, **setting: object) -> Path:
    """A run with a checkpoint of mmengine's, without DeepSpeed, after 3 steps of 4 micro-batches each."""
    folder.mkdir()
    before = {
        "train_dataloader.batch_size": 2, GROUP: 8, "accumulation": 4, "processes": processes,
        "param_scheduler.type": "moslora_xtuner.training.schedule.WarmUpCosineLR", **setting,
    }  # fmt: skip
    schedule = {"last_step": 12, "_global_step": 12, "begin": 0, "end": 40, "accumulation": 4, "base_values": [0.1]}
    held = {
        "meta": {"iter": 12, "epoch": 0}, "state_dict": {"w": torch.arange(3.0)}, "param_schedulers": [schedule],
        "message_hub": {"runtime_info": {"iter": 11, "max_iters": 40, "seed": 0}},
    }  # fmt: skip
    torch.save(held, folder / "iter_12.pth")
    (folder / "iter_12.state").mkdir()
    for rank in range(processes):
        (folder / "iter_12.state" / f"random_{rank}.pt").write_bytes(bytes([rank]))
    files = contents(folder, folder / "iter_12.pth", folder / "iter_12.state")
    atomic_json(folder / "iter_12.state" / MARK, Mark(12, processes, files, before).as_json())
    return folder


@pytest.mark.parametrize(("processes", "accumulation", "group"), [(1, 8, 16), (2, 4, 8), (4, 2, 4), (8, 1, 2)])
def test_what_counts_iterations_is_moved_and_a_step_keeps_its_records(
    tmp_path: Path, processes: int, accumulation: int, group: int
) -> None:
    run = marked(tmp_path / "run")
    made = reshard(run, tmp_path / "new", processes)
    step = 3 * accumulation
    assert (made.path.name, made.steps) == (f"iter_{step}.pth", 3)
    assert made.options == (f"optim_wrapper.accumulative_counts={accumulation}", f"{GROUP}={group}")
    assert newest(tmp_path / "new").path == made.path  # complete, its hashes its own
    held: dict[str, Any] = torch.load(made.path, weights_only=True)
    assert held["meta"]["iter"] == step
    (schedule,) = held["param_schedulers"]
    assert [schedule[name] for name in ("last_step", "_global_step", "begin", "end", "accumulation")] == [
        step, step, 0, 10 * accumulation, accumulation,
    ]  # fmt: skip
    assert torch.equal(held["state_dict"]["w"], torch.arange(3.0))
    mark = Mark.read(state_of(made.path) / MARK)
    assert (mark.step, mark.processes) == (step, processes)
    assert [mark.setting[name] for name in ("processes", "accumulation", GROUP)] == [processes, accumulation, group]
    random = sorted(file.name for file in state_of(made.path).glob("random_*"))
    assert random == [f"random_{rank}.pt" for rank in range(min(2, processes))]
    # What was there is there.
    assert newest(run).path == run / "iter_12.pth"


def test_what_is_left_over_at_the_end_stays_a_step(tmp_path: Path) -> None:
    """39 iterations, two a step, are 20 steps; on twice as many processes they are 20 iterations."""
    run = marked(tmp_path / "run", accumulation=2, **{GROUP: 4})
    held = torch.load(run / "iter_12.pth", weights_only=True)
    held["param_schedulers"][0]["end"] = 39
    torch.save(held, run / "iter_12.pth")
    state = run / "iter_12.state"
    before = Mark.read(state / MARK).setting
    atomic_json(state / MARK, Mark(12, 2, contents(run, run / "iter_12.pth", state), before).as_json())
    made = reshard(run, tmp_path / "new", 4)
    (schedule,) = torch.load(made.path, weights_only=True)["param_schedulers"]
    assert (schedule["end"], schedule["accumulation"]) == (20, 1)


@pytest.mark.parametrize(("processes", "factor"), [(1, 2), (4, 0.5), (2, 1)])
def test_a_validation_goes_along(tmp_path: Path, processes: int, factor: float) -> None:
    """Its losses stand at the same steps, and so does what is kept; the other run asks for it as often."""
    run = marked(tmp_path / "run", **{"validation.interval": 4, "validation.data": "records a"})
    kept, found = Loss(8, 1.25), [Loss(4, 2.0), Loss(8, 1.25), Loss(12, None)]
    state = run / "iter_12.state"
    atomic_json(state / "validation.json", {"format": 1, "keep": "best", "losses": as_json(found)})
    best.write(run, build(), kept)
    best.put_into_checkpoint(run, state)
    before = Mark.read(state / MARK).setting
    atomic_json(state / MARK, Mark(12, 2, contents(run, run / "iter_12.pth", state), before).as_json())
    made = reshard(run, tmp_path / "new", processes)
    assert made.options[-1] == f"default_hooks.validation.interval={int(4 * factor)}"
    there = state_of(made.path)
    assert Mark.read(there / MARK).setting["validation.interval"] == int(4 * factor)
    assert newest(tmp_path / "new").path == made.path
    told = from_json(json.loads((there / "validation.json").read_text())["losses"], there)
    assert told == [Loss(int(loss.step * factor), loss.loss) for loss in found]
    best.take_from_checkpoint(there, tmp_path / "new", Loss(int(8 * factor), 1.25))
    weights = (tmp_path / "new" / ".best" / "llm" / "adapter_model.safetensors").read_bytes()
    assert weights == (run / ".best" / "llm" / "adapter_model.safetensors").read_bytes()


def test_by_tokens_an_iteration_is_a_step(tmp_path: Path) -> None:
    run = marked(tmp_path / "run", accumulation=1, **{"train_cfg.max_tokens": 900})
    made = reshard(run, tmp_path / "new", 1)
    assert made.path.name == "iter_12.pth"
    assert made.options == ("optim_wrapper.accumulative_counts=8", f"{GROUP}=16")


def test_what_cannot_be_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    run = marked(tmp_path / "run")
    new = tmp_path / "new"
    with pytest.raises(ConfigError, match="3 processes cannot share them; take a number that divides 8"):
        reshard(run, new, 3)
    with pytest.raises(ConfigError, match=r"without moslora_xtuner.data.sampler.LengthGroupedSampler"):
        reshard(marked(tmp_path / "other", **{GROUP: None}), new, 1)
    with pytest.raises(ConfigError, match="has a schedule that counts micro-batches"):
        reshard(marked(tmp_path / "cosine", **{"param_scheduler.type": "mmengine.optim.CosineAnnealingLR"}), new, 1)
    with pytest.raises(TrainingError, match="has no complete checkpoint"):
        reshard(tmp_path / "none", new, 1)
    assert not new.exists()
    with pytest.raises(OutputError, match=r"holds an unfinished run|was not made by moslora"):
        reshard(run, run, 1)
    ended = marked(tmp_path / "ended", accumulation=5)
    with pytest.raises(TrainingError, match="is of the end of its run"):
        reshard(ended, new, 1)
    broken = marked(tmp_path / "broken")
    (broken / "iter_12.pth").write_bytes(b"x")
    with pytest.raises(TrainingError, match="no checkpoint that can be trusted"):
        reshard(broken, new, 1)


@pytest.mark.slow
def test_two_processes_one_and_two_again(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    variables = {"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(tiny_data), "OMP_NUM_THREADS": "1"}
    same = [
        "train_dataloader.batch_size=2", "train_cfg.loss_mean=global_batch", "train_cfg.max_epochs=2",
        "default_hooks.checkpoint.interval=8",
    ]  # fmt: skip

    def go_on(folder: Path, processes: int, options: tuple[str, ...]) -> None:
        train(
            "digits_moslora", processes=processes, work_dir=folder, cfg_options=[*same, *options], resume="auto",
            environment=variables, progress=lambda *_: None,
        )  # fmt: skip

    def interrupted(folder: Path, iteration: int) -> Path:
        """The run as it stood after a checkpoint."""
        copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-cut"))
        shutil.rmtree(copy / ADAPTERS)
        for path in checkpoints(copy):
            if int(path.stem.removeprefix("iter_")) > iteration:
                shutil.rmtree(state_of(path))
                shutil.rmtree(path)
        return Path(copy)

    whole = tmp_path / "two"
    go_on(whole, 2, ("optim_wrapper.accumulative_counts=2", f"{GROUP}=4"))
    one = reshard(interrupted(whole, 8), tmp_path / "one", 1)
    assert (one.path.name, one.steps) == ("iter_16.pth", 4)
    go_on(tmp_path / "one", 1, one.options)
    again = reshard(interrupted(tmp_path / "one", 24), tmp_path / "again", 2)
    assert (again.path.name, again.steps) == ("iter_12.pth", 6)
    go_on(tmp_path / "again", 2, again.options)
    wanted = load_file(whole / ADAPTERS / LLM / "adapter_model.safetensors")
    for folder in ("one", "again"):
        found = load_file(tmp_path / folder / ADAPTERS / LLM / "adapter_model.safetensors")
        assert max(float((found[name] - wanted[name]).abs().max()) for name in wanted) < 1e-6
