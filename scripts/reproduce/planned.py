"""`moslora plan`'s figures for a recipe and a number of GPUs, whatever this machine has."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from moslora_xtuner.progress import quiet

GPU_GIB = 80.0  # the formula for time does not read it, but a plan for another machine must have it


def look(recipe: str, gpus: int, tflops: float, options: list[str]) -> Any:
    """The plan of a recipe on GPUs (without any: on this machine's CPU), with the options of `moslora train`."""
    with quiet():
        from moslora_xtuner.training.plan.make import make_plan
        from moslora_xtuner.training.plan.setting import read_setting

        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--cfg-options", action="append", default=[])
        parser.add_argument("--deepspeed", default="zero2")
        known, _ = parser.parse_known_args(options)
        setting = read_setting(
            recipe,
            gpus=gpus or None,
            processes=1,
            gpu_memory=GPU_GIB if gpus else None,
            deepspeed=None if known.deepspeed == "none" else known.deepspeed,
            options=known.cfg_options,
            work_dir=Path("work_dirs") / recipe,
        )
        return make_plan(setting, tflops)


def hours(plan: Any, tflops: float) -> float | None:
    """What the step "time" of a plan says; None where models or data are not here."""
    from moslora_xtuner.training.plan import costs
    from moslora_xtuner.training.plan.outcome import Step

    step = Step("time")
    with quiet():
        costs.time(plan, step, tflops)
    found = re.search(r"about (\S+) hours", " ".join(step.facts))
    return float(found[1]) if found else None
