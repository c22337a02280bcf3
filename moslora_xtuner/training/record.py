"""Hooks that say what is run and how fast it goes."""

from __future__ import annotations

import json
import os
import platform
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

from ..versions import git_changes, installed_versions

RUN = "run.json"


class RecordRun(Hook):
    """Write `WORK_DIR/run.json` when the training starts: config, versions, git state, seed, hardware.

    What is there from an earlier start of the same run is kept as its `earlier` entries.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:
        """Write the file, from the first process."""
        if not is_main_process():
            return
        from ..atomic import atomic_write

        path = Path(runner.work_dir) / RUN
        facts = {
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "step": runner.iter,
            "config": runner.cfg.to_dict(),
            "seed": runner.seed,
            "processes": get_world_size(),
            "versions": installed_versions(),
            "git": git_state(Path.cwd()),
            "hardware": hardware(),
        }
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            facts["earlier"] = [*before.pop("earlier", []), {key: before[key] for key in ("started", "step")}]
        except (OSError, ValueError, KeyError):
            facts["earlier"] = []
        atomic_write(path, json.dumps(facts, indent=2, default=str) + "\n")


class Throughput(Hook):
    """Put samples and tokens a second, of all processes together, beside the loss.

    A token is a place of the language model that is not padding, pictures' places included. Counted over what this
    process read since the last step, times the processes.
    """

    priority = "NORMAL"

    def before_train(self, runner: Any) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the two rates, which mmengine's logger averages like the loss."""
        now = time.perf_counter()
        # With a budget of tokens an iteration has all micro-batches of a step.
        batches = data_batch if isinstance(data_batch, list) else [data_batch]
        masks = [batch["data"]["attention_mask"] for batch in batches]
        share = get_world_size() / max(now - self.start, 1e-9)
        self.start = now
        runner.message_hub.update_scalar("train/samples_per_s", sum(map(len, masks)) * share)
        runner.message_hub.update_scalar("train/tokens_per_s", sum(int(mask.sum()) for mask in masks) * share)
        if not torch.cuda.is_available():  # mmengine logs the peak of a GPU itself
            runner.message_hub.update_scalar("train/memory", peak_of_process())


def peak_of_process() -> int:
    """The most memory that this process has had, in MiB."""
    import resource

    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(kib / 1024)


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a repository."""
    found = git_changes(folder, untracked=True)
    return None if found is None else {"commit": found[0], "changed": found[1] > 0}


def hardware() -> dict[str, Any]:
    """What this machine computes with."""
    return {
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
    }
