"""Everything that the steps left need and that is not here, in one list, with how to get it.

    python scripts/reproduce/table4/needs.py --gpus N --out DIR --benchmarks GROUP --steps STEP... \
        [-- OPTIONS OF train]

COMMONSENSE_LLM, COMMONSENSE_DATA and LLM_ADAPTERS must be set. Nothing is downloaded. Exit status 3 when anything is
missing. Disk and memory are by the formulas of docs/plan.md, at LLaMA-3 8B's size where no model is here yet.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.data.commonsense.reading import find
from moslora_xtuner.data.commonsense.sets import SETS, TRAINING, WHERE
from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, GROUPS
from moslora_xtuner.progress import quiet
from reproduce import machine, planned
from reproduce.table4.catalogue import PREFIX, RECORDS, Trained, by_key

LLM = "meta-llama/Meta-Llama-3-8B-Instruct on Hugging Face, whose licence asks to be accepted"
GIB = 2**30
LENGTH = 256
"""Tokens at which the authors cut a record."""
DATA_GIB = 0.5
"""Of the questions and their store, all of them; assumed."""
ANSWERS_GIB = 0.05
"""Of one run's answers; assumed."""


def data(steps: Sequence[str], benchmarks: str) -> Iterator[str]:
    """LLM-Adapters' files; or, where they have been read, what was made of them."""
    made = Path(os.environ["COMMONSENSE_DATA"])
    if "data" not in steps:
        files = [BENCHMARKS[name].file_name for name in GROUPS[benchmarks]]
        again = "make them again with `moslora data commonsense`, or set COMMONSENSE_DATA to what it made"
        if any(step.startswith("eval-") for step in steps):
            yield from machine.tables("COMMONSENSE_DATA", made / "LMUData", files, again)
    elif benchmarks != "small-worlds":  # which are made here, out of nothing
        folder = Path(os.environ["LLM_ADAPTERS"])
        try:
            find(folder, [which.path for which in SETS] + [TRAINING])
        except DataError as fault:
            yield (
                f"LLM_ADAPTERS={folder}: {fault} (source: git clone {WHERE}; or set COMMONSENSE_DATA to what "
                "`moslora data commonsense` made of it)"
            )


def disk(trainings: Sequence[Trained], plans: dict[str, Any], steps: Sequence[str], out: Path) -> Iterator[str]:
    """Room for data, checkpoints and answers of all steps left."""
    needed = DATA_GIB * sum(step in ("data", "prepare") for step in steps)
    needed += sum(DATA_GIB * float(step.split("-")[2]) / 100 for step in steps if step.startswith("prepare-part-"))
    needed += ANSWERS_GIB * sum(step.startswith("eval-") for step in steps)
    for run in trainings:
        plan = plans[run.recipe]
        # As docs/plan.md counts: each checkpoint kept, and one being written, has weights, their copy, Adam's moments.
        kept = plan.setting.config["default_hooks"]["checkpoint"]["max_keep_ckpts"] + 1
        needed += plan.llm.trainable * (kept * (plan.setting.precision.compute + 12) + 4) / GIB
    folder = out.absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    if needed > free:
        yield f"{folder} has {free:.1f} GiB free, the steps left need about {needed:.1f}: free some, or give -o"


def memory(plans: dict[str, Any], gpus: int) -> Iterator[str]:
    """Memory of the machine while a model is loaded, and of its GPUs for the method that needs most."""
    import torch

    loading = max(map(loaded, plans.values())) / GIB
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if loading > here:
        yield f"this machine has {here:.1f} GiB of memory, loading the model takes {loading:.1f}: take another machine"
    if not gpus or not torch.cuda.device_count():
        return
    room = min(torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count())) / GIB
    for recipe, plan in plans.items():
        if plan.memory is not None and plan.memory.total > room * GIB:
            needed = f"{PREFIX}{recipe} needs about {plan.memory.total / GIB:.1f} GiB of a GPU, which has {room:.1f}"
            yield f"{needed}: MOSLORA_TRAIN_OPTIONS can give fewer records at a time (docs/plan.md), or take other GPUs"


def loaded(plan: Any) -> float:
    """Bytes of the machine while the model is loaded; without its files, of all weights once."""
    from moslora_xtuner.training.plan import costs

    try:
        return costs.host_memory_while_loading(plan)
    except OSError:  # which `machine.model` has told
        return float(plan.setting.precision.compute * plan.llm.parameters)


def plans_of(trainings: Sequence[Trained], gpus: int, options: list[str]) -> dict[str, Any]:
    """A plan for each recipe; of LLaMA-3 8B's shapes and records cut at 256 tokens where these are not here yet."""
    from moslora_xtuner.training.plan import costs
    from moslora_xtuner.training.plan.checkpoints import Store
    from moslora_xtuner.training.plan.outcome import Step
    from moslora_xtuner.training.plan.shapes import NOTHING

    found = {}
    for recipe in dict.fromkeys(run.recipe for run in trainings):
        plan = planned.look(f"{PREFIX}{recipe}", gpus, 1.0, options)
        if plan.llm is None:
            from commonsense.counts import adapted

            with quiet():  # a mixer of zeros is warned of, which Table 3 wants
                plan.llm, plan.visual = adapted(f"{PREFIX}{recipe}"), NOTHING
        if plan.store is None:
            plan.store = Store(RECORDS, 0, 0, 0, RECORDS * LENGTH, LENGTH, LENGTH)
            costs.memory(plan, Step("memory"))
        found[recipe] = plan
    return found


def missing(steps: Sequence[str], gpus: int, out: Path, benchmarks: str, options: list[str]) -> Iterator[str]:
    """What the steps need and is not here, a line each."""
    trainings = [run for step in steps if step.startswith("train-") and (run := by_key(step.removeprefix("train-")))]
    yield from data(steps, benchmarks)
    if any(step.startswith(("prepare", "train-", "eval-")) for step in steps):
        yield from machine.model("COMMONSENSE_LLM", LLM)
    if trainings:
        yield from machine.gpus(gpus)
        plans = plans_of(trainings, gpus, options)
        yield from memory(plans, gpus)
        yield from disk(trainings, plans, steps, out)


def main() -> None:
    """Parse the command line, print the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--benchmarks", required=True)
    parser.add_argument("--steps", nargs="+", required=True)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    machine.tell(missing(args.steps, args.gpus, args.out, args.benchmarks, args.options))


if __name__ == "__main__":
    main()
