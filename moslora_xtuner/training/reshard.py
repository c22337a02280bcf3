"""A run that goes on with another number of processes: the same global batches, cut otherwise."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from ..atomic import PARTIAL, remove
from ..errors import ConfigError, TrainingError
from ..output import claim
from .checkpoints.mark import MARK, Mark, complete, contents, require_newest, state_of
from .checkpoints.partitions import recut
from .checkpoints.trust import run_no_code_of_checkpoints
from .run_folder import require_free, require_new
from .validation.losses import STATE
from .validation.moving import move_state, times

KIND = "training run"
MODEL = "mp_rank_00_model_states.pt"
_OPTIMISER = re.compile(r"(.*zero_pp_rank_)(\d+)(_mp_rank_00_optim_states\.pt)")
_GROUP = "train_dataloader.sampler.per_device_batch_size"
_VALIDATION = "validation.interval"
_OWN_SCHEDULES = "moslora_xtuner.training.schedule."
_ELSE = "to go on from its weights alone, with a fresh optimiser: a new run with --cfg-options load_from=CHECKPOINT"


@dataclass(frozen=True)
class Resharded:
    """A checkpoint for another number of processes, and what the config must say with them.

    Attributes:
        path: of the checkpoint.
        steps: of the optimiser that are done.
        options: `key=value`, for --cfg-options.
    """

    path: Path
    steps: int
    options: tuple[str, ...]


def reshard(run: Path, out: Path, processes: int) -> Resharded:
    """Write the newest complete checkpoint of a run for another number of processes, into a folder of its own.

    A step of the optimiser keeps its records: with N processes, micro-batches of b and a of them accumulated, N a b
    stays what it is, so M processes accumulate N a / M. Weights, optimiser, schedule and the place in the data go on
    exactly; sums are taken in another order, and dropout draws other numbers on processes that there were not.

    Args:
        run: a run's folder; it is only read.
        out: for the run that goes on; new or empty.
        processes: how many there will be.

    Raises:
        TrainingError: no checkpoint is complete, or it is of ZeRO-3, whose weights are cut up as well.
        ConfigError: that many processes cannot have the same global batches.
        OutputError: `out` holds something.
    """
    found = require_newest(run).path
    if found is None or not (state_of(found) / MARK).is_file():
        raise TrainingError(f"{run} has no complete checkpoint with its mark: nothing can be cut anew; {_ELSE}")
    mark = Mark.read(state_of(found) / MARK)
    if mark.step % int(mark.setting.get("accumulation") or 1):
        raise TrainingError(f"{found} is of the end of its run: nothing is left to do")
    setting, options, factor = _cut_otherwise(mark, processes, found)
    claim(out, KIND)
    require_free(out)
    require_new(out, resume=False, overwrite=False)
    run_no_code_of_checkpoints()
    step = int(mark.step * factor)
    final = out / f"iter_{step}.pth"
    partial, beside = out / f"{PARTIAL}{final.name}", out / f"{PARTIAL}{state_of(final).name}"
    for path in (partial, beside):
        remove(path)
    if found.is_dir():
        partial.mkdir()
        _deepspeed(found, partial, processes, factor, setting)
    else:
        torch.save(_moved(torch.load(found, weights_only=True, map_location="cpu"), factor, setting), partial)
    beside.mkdir()
    for file in state_of(found).iterdir():
        rank = re.fullmatch(r"random_(\d+)\.pt", file.name)
        ours = file.name in (MARK, STATE) or file.is_dir()
        if not ours and (rank is None or int(rank[1]) < processes):
            shutil.copyfile(file, beside / file.name)
    move_state(state_of(found), beside, factor)
    complete(partial, beside, final, lambda: Mark(step, processes, contents(out, final, state_of(final)), setting))
    return Resharded(final, mark.step // int(mark.setting.get("accumulation") or 1), options)


def _cut_otherwise(mark: Mark, processes: int, checkpoint: Path) -> tuple[dict[str, Any], tuple[str, ...], Fraction]:
    """The setting of the same global batches on so many processes, as options, and by what iterations multiply."""
    before = mark.setting
    group, batch = before.get(_GROUP), before.get("train_dataloader.batch_size")
    if not isinstance(group, int) or not isinstance(batch, int):
        raise ConfigError(
            f"{checkpoint} was trained without moslora_xtuner.data.sampler.LengthGroupedSampler: which records a step "
            f"has would follow the processes; {_ELSE}"
        )
    if not str(before.get("param_scheduler.type")).startswith(_OWN_SCHEDULES):
        raise ConfigError(f"{checkpoint} has a schedule that counts micro-batches; {_ELSE}")
    share = Fraction(group * mark.processes, processes)
    micro_batches = share / batch
    if micro_batches.denominator != 1:
        raise ConfigError(
            f"a step has {group * mark.processes} records in micro-batches of {batch}: {processes} processes cannot "
            f"share them; take a number that divides {group * mark.processes // batch}"
        )
    by_tokens = before.get("train_cfg.max_tokens") is not None  # then an iteration is a step, whoever takes it
    factor = Fraction(1) if by_tokens else micro_batches / int(before["accumulation"])
    accumulation = 1 if by_tokens else int(micro_batches)
    setting = {**before, "processes": processes, "accumulation": accumulation, _GROUP: int(share)}
    options = [f"optim_wrapper.accumulative_counts={micro_batches}", f"{_GROUP}={share}"]
    if isinstance(interval := before.get(_VALIDATION), int) and interval > 0:
        setting[_VALIDATION] = times(interval, factor)
        options.append(f"default_hooks.{_VALIDATION}={setting[_VALIDATION]}")
    return setting, tuple(options), factor


def _deepspeed(found: Path, made: Path, processes: int, factor: Fraction, setting: Mapping[str, Any]) -> None:
    """Write DeepSpeed's files of a checkpoint for so many processes."""
    if not (found / MODEL).is_file():
        raise TrainingError(f"{found} is of ZeRO-3, which cuts up the weights as well: it cannot be cut anew; {_ELSE}")
    model = torch.load(found / MODEL, weights_only=True, map_location="cpu")
    model["dp_world_size"] = processes
    torch.save(_moved(model, factor, setting), made / MODEL)
    files = {int(name[2]): (file, name) for file in found.iterdir() if (name := _OPTIMISER.fullmatch(file.name))}
    parts = [torch.load(files[rank][0], weights_only=True, map_location="cpu") for rank in sorted(files)]
    if not parts:
        return
    cut = recut([part["optimizer_state_dict"] for part in parts], model["param_shapes"], processes)
    name = files[0][1]
    for rank, state in enumerate(cut):
        torch.save({**parts[0], "optimizer_state_dict": state}, made / f"{name[1]}{rank}{name[3]}")


def _moved(states: dict[str, Any], factor: Fraction, setting: Mapping[str, Any]) -> dict[str, Any]:
    """mmengine's part of a checkpoint, which counts iterations, with as many more or fewer of them."""

    states["meta"]["iter"] = times(states["meta"]["iter"], factor)
    for schedule in states.get("param_schedulers") or ():
        for name in ("last_step", "_global_step", "begin", "end"):
            schedule[name] = times(schedule[name], factor)
        schedule["accumulation"] = setting["accumulation"]
    told = (states.get("message_hub") or {}).get("runtime_info") or {}
    told |= {name: times(told[name], factor) for name in ("iter", "max_iters") if name in told}
    return states
