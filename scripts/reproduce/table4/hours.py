"""Estimated hours of each step: by `moslora plan`'s formula where model and data are here, else the paper's.

    python scripts/reproduce/table4/hours.py --gpus N [--gpu-tflops T] --benchmarks GROUP --runs KEY... \\
        [-- OPTIONS OF plan AND train]

A line a step: its name or kind, hours, whose figure that is; tabs between. Nothing here is measured on the machine
that the hours are for.
"""

from __future__ import annotations

import argparse

from moslora_xtuner.data.commonsense.sets import SETS
from moslora_xtuner.errors import MoSLoRAError
from reproduce import planned
from reproduce.table4.catalogue import NAMES, PREFIX, RECORDS, ROWS_OF_TABLE4, WHOLE, Trained, by_key

PREPARED_A_SECOND = 2300.0
"""Records on two cores, from docs/performance.md (there with pictures' names, here text alone)."""
QUESTIONS = {
    "commonsense": sum(which.count for which in SETS),
    "commonsense-greedy": sum(which.count for which in SETS),
    "small-worlds": 8 * 200,
}
ANSWERED_A_SECOND = {"commonsense": 5.0, "commonsense-greedy": 20.0, "small-worlds": 20.0}
"""By one GPU, with four beams and without; each GPU has a process of its own. Assumed."""
LIKE = {name: "moslora" for name in NAMES if name.startswith("moslora_") or name == "frozen_mixer"} | {
    "ts_mixing": "lora",
    "ts_mixing_r32": "lora",
    "lora_r32": "lora",
}
"""Of which row the hours stand in where the paper prints none."""


def assumed(gpus: int, benchmarks: str) -> dict[str, tuple[float, str]]:
    """Hours and their reason of the steps that are no training."""
    rate = ANSWERED_A_SECOND[benchmarks]
    speed = f"assuming {rate:g} questions a second on each of {gpus} GPUs"
    records, questions = 8000 if benchmarks == "small-worlds" else RECORDS, QUESTIONS[benchmarks]
    prepared = f"assuming {PREPARED_A_SECOND:,.0f} records a second, {records:,} records"
    return {
        "data": (0.01, "assumed"),
        "part": (0.01, "assumed"),
        "prepare": (records / PREPARED_A_SECOND / 3600, prepared),
        "plan": (0.01, "assumed"),
        "eval": (questions / (rate * max(gpus, 1)) / 3600, f"{speed}, {questions:,} questions"),
        "report": (0.01, "assumed"),
        "table": (0.01, "assumed"),
        "figure": (0.01, "assumed"),
    }


def printed(recipe: str) -> tuple[float, str]:
    """The paper's hours of a method on one A100, and whose they are."""
    row = ROWS_OF_TABLE4[LIKE.get(recipe, recipe)]
    return row.hours, f"Table 4's {row.hours:g} h{f' of {row.name}' if recipe in LIKE else ''} on an A100 80 GB"


def training(run: Trained, gpus: int, small: bool, formula: float | None, tflops: float) -> tuple[float, str]:
    """Hours of a training and whose figure that is.

    Args:
        run: which.
        gpus: 0 on the CPU.
        small: whether it is on small worlds, of which the paper knows nothing.
        formula: hours of LoRA on all the questions by docs/plan.md; None where model or data are not here.
        tflops: of one GPU, for the formula.
    """
    if not gpus:
        return 0.0, "NOT estimated: on the CPU"
    share = "" if run.part == WHOLE else f", for {run.part:g} % of the questions"
    hours, theirs = printed(run.recipe)
    if formula is not None:
        lora = ROWS_OF_TABLE4["lora"].hours
        times = (
            ""
            if hours == lora
            else f", times {hours / lora:.2g} as Table 4 has {NAMES[LIKE.get(run.recipe, run.recipe)]} to LoRA"
        )
        how = f"formula of docs/plan.md, the token store's records, {tflops:g} TFLOP/s on each of {gpus} GPUs"
        return formula * hours / lora * run.part / WHOLE, f"{how}{times}{share}"
    if small:
        return 0.0, "NOT estimated: no token store yet, and no figure of the paper"
    shared = f", shared out to {gpus} GPUs" if gpus > 1 else ""
    return hours / gpus * run.part / WHOLE, f"{theirs}{shared}{share}"


def main() -> None:
    """Parse the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--gpu-tflops", type=float, default=125.0)
    parser.add_argument("--benchmarks", required=True)
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    found = assumed(args.gpus, args.benchmarks)
    formula = None
    if args.gpus:
        try:
            plan = planned.look(f"{PREFIX}lora", args.gpus, args.gpu_tflops, args.options)
        except MoSLoRAError as fault:
            raise SystemExit(f"error: {fault}") from None
        formula = planned.hours(plan, args.gpu_tflops)
    for run in filter(None, map(by_key, args.runs)):
        small = args.benchmarks == "small-worlds"
        found[f"train-{run.key}"] = training(run, args.gpus, small, formula, args.gpu_tflops)
        if run.part != WHOLE:
            hours, how = found["prepare"]
            name = f"prepare-part-{run.part:g}-seed-{run.seed}"
            found[name] = (hours * run.part / WHOLE, f"{how}, {run.part:g} % of them")
    for name, (hours, whose) in found.items():
        print(f"{name}\t{hours:.3g}\t{whose}")


if __name__ == "__main__":
    main()
