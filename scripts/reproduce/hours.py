"""Estimated hours of each step of a reproduction: by `moslora plan`'s formula, else the paper's, else assumed.

    python scripts/reproduce/hours.py --gpus N [--gpu-tflops T] --rows NAME... [-- OPTIONS OF plan AND train]

A line a step: its name or kind, hours, whose figure that is; tabs between. Nothing here is measured on the machine
that the hours are for.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from moslora_xtuner.errors import MoSLoRAError

PAPER_HOURS, PAPER_GPUS = 20.0, 4
"""Of a row, on A100 of 80 GB: arXiv 2406.11909."""
RECORDS, PICTURES = 665_298, 624_610
"""Of LLaVA-1.5's mix (haotian-liu/LLaVA issue 657)."""
TEXT_TOKENS, PLACES = 290, 576
"""Text tokens of a record, known of a similar set; places of a picture in the recipes."""
CHECKED_A_SECOND, PREPARED_A_SECOND = 800.0, 2300.0
"""Records on two cores, from docs/performance.md: photographs are decoded by the check, `prepare` remembers that."""
QUESTIONS = {
    "MMBench_TEST_EN": 6666, "MMBench_TEST_CN": 6666, "SEEDBench_IMG": 14232, "AI2D_TEST": 3088, "ScienceQA_TEST": 2017,
    "TextVQA_VAL": 5000, "MathVista_MINI": 1000, "MMVet": 218, "MME": 2374,
}  # fmt: skip
ANSWERED_A_SECOND = 5.0
"""By one GPU; each GPU has a process of its own."""
EXPORT_HOURS = 0.2
GPU_GIB = 80.0  # the formula for time does not read it, but a plan for another machine must have it


def assumed(gpus: int) -> dict[str, tuple[float, str]]:
    """Hours and their reason of the steps that are no training."""
    questions = sum(QUESTIONS.values())
    answered = ANSWERED_A_SECOND * max(gpus, 1)
    speed = f"assuming {ANSWERED_A_SECOND:g} questions a second on each of {gpus} GPUs"
    return {
        "check": (
            RECORDS / CHECKED_A_SECOND / 3600,
            f"assuming {CHECKED_A_SECOND:g} records a second, {RECORDS:,} records",
        ),
        "prepare": (
            RECORDS / PREPARED_A_SECOND / 3600,
            f"assuming {PREPARED_A_SECOND:,.0f} records a second, {RECORDS:,} records",
        ),
        "plan": (0.01, "assumed"),
        "export": (EXPORT_HOURS, "assumed"),
        "eval": (questions / answered / 3600, f"{speed}, {questions:,} questions"),
        "report": (0.01, "assumed"),
    }


def training(row: str, gpus: int, tflops: float, options: list[str]) -> tuple[float, str]:
    """Hours of a training and whose figure that is."""
    if not gpus:
        return 0.0, "NOT estimated: on the CPU"
    planned = planned_hours(row, gpus, tflops, options)
    if planned is not None:
        hours, of = planned
        return hours, f"formula of docs/plan.md, {of}, {tflops:g} TFLOP/s on each of {gpus} GPUs"
    hours = PAPER_HOURS * PAPER_GPUS / gpus
    theirs = f"the paper's {PAPER_HOURS:g} h on {PAPER_GPUS} x A100 80 GB"
    return hours, theirs if gpus == PAPER_GPUS else f"{theirs}, shared out to {gpus} GPUs"


def planned_hours(row: str, gpus: int, tflops: float, options: list[str]) -> tuple[float, str] | None:
    """What the step "time" of the row's plan says, and of which records; None where the models are not here."""
    from moslora_xtuner.progress import quiet

    with quiet():
        from moslora_xtuner.training.plan import costs
        from moslora_xtuner.training.plan.checkpoints import Store
        from moslora_xtuner.training.plan.make import make_plan
        from moslora_xtuner.training.plan.outcome import Step
        from moslora_xtuner.training.plan.setting import read_setting

        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("--cfg-options", action="append", default=[])
        parser.add_argument("--deepspeed", default="zero2")
        known, _ = parser.parse_known_args(options)
        setting = read_setting(
            row,
            gpus=gpus,
            gpu_memory=GPU_GIB,
            deepspeed=None if known.deepspeed == "none" else known.deepspeed,
            options=known.cfg_options,
            work_dir=Path("work_dirs") / row,
        )
        plan = make_plan(setting, tflops)
        of = "the token store's records"
        if plan.store is None:  # not prepared yet: the published numbers of the mix stand in
            of = f"assuming {RECORDS:,} records of {TEXT_TOKENS} text tokens"
            tokens = RECORDS * TEXT_TOKENS + PICTURES * (PLACES - 1)
            plan.store = Store(RECORDS, PICTURES, PICTURES, 1, tokens, longest=2048)
        step = Step("time")
        costs.time(plan, step, tflops)
    found = re.search(r"about (\S+) hours", " ".join(step.facts))
    return (float(found[1]), of) if found else None


def main() -> None:
    """Parse the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--gpu-tflops", type=float, default=125.0)
    parser.add_argument("--rows", nargs="+", required=True)
    parser.add_argument("options", nargs="*")
    args = parser.parse_args()
    found = assumed(args.gpus)
    for row in args.rows:
        try:
            found[f"train-{row}"] = training(row, args.gpus, args.gpu_tflops, args.options)
        except MoSLoRAError as fault:
            raise SystemExit(f"error: {fault}") from None
    for name, (hours, whose) in found.items():
        print(f"{name}\t{hours:.2g}\t{whose}")


if __name__ == "__main__":
    main()
