"""Estimated hours of each step of a reproduction: by `moslora plan`'s formula, else the paper's, else assumed.

    python scripts/reproduce/table5/hours.py --gpus N [--gpu-tflops T] --rows NAME... [-- OPTIONS OF plan AND train]

A line a step: its name or kind, hours, whose figure that is; tabs between. Nothing here is measured on the machine
that the hours are for.
"""

from __future__ import annotations

import argparse

from moslora_xtuner.errors import MoSLoRAError
from reproduce import planned

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
    plan = planned.look(row, gpus, tflops, options)
    of = "the token store's records"
    if plan.store is None:  # not prepared yet: the published numbers of the mix stand in
        from moslora_xtuner.training.plan.checkpoints import Store

        of = f"assuming {RECORDS:,} records of {TEXT_TOKENS} text tokens"
        tokens = RECORDS * TEXT_TOKENS + PICTURES * (PLACES - 1)
        plan.store = Store(RECORDS, PICTURES, PICTURES, 1, tokens, longest=2048)
    hours = planned.hours(plan, tflops)
    return None if hours is None else (hours, of)


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
