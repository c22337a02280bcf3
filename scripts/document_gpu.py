"""Write the GPU tables of docs/performance.md from what `scripts/gpu/check.sh` left in docs/results/gpu/.

    python scripts/document_gpu.py [--check]

A folder there is one machine on one day. Of each part the newest file counts; where there is none, the page says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.eval.titles import WAYS
from bench.training.table import step_table
from bench.training.titles import TITLES
from docs.marked_tables import write_tables
from gpu.machine import described

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "gpu"
PAGE = ROOT / "docs" / "performance.md"
NOT_YET = "Not measured yet."


def newest(part: str, results: Path) -> dict[str, Any] | None:
    """What the newest folder that has this part says of it."""
    files = sorted(results.glob(f"*/{part}.json"))
    found: dict[str, Any] | None = json.loads(files[-1].read_text()) if files else None
    return found


def machine_line(results: Path) -> str:
    """The machines of all parts, each once."""
    parts = ("adapter", "bench", "nf4", "memory", "memory-nf4", "train", "eval", "ceiling")
    there = {part: found for part in parts if (found := newest(part, results)) is not None}
    lines: dict[str, list[str]] = {}
    for part, found in there.items():
        lines.setdefault(described(found["machine"]), []).append(part)
    return "\n\n".join(f"{line} ({', '.join(names)})." for line, names in lines.items()) or NOT_YET


def adapter_table(results: Path) -> str:
    """The largest error of each kind of layer."""
    found = newest("adapter", results)
    if found is None:
        return NOT_YET
    worst: dict[str, dict[str, float]] = {}
    bounds: dict[str, float] = {}
    for row in found["rows"]:
        kind = ", ".join(row["case"].split(", ")[:2])
        what = row["what"].removesuffix(" with dropout")
        what = "gradients" if what.startswith("gradient") else what
        bounds[kind] = row["bound"]
        worst.setdefault(kind, {})
        worst[kind][what] = max(worst[kind].get(what, 0.0), row["error"])
    columns = ("output", "gradients", "merged weight", "unmerged weight")
    lines = ["| layer | at most | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for kind, errors in worst.items():
        cells = [f"{errors[column]:.1e}" if column in errors else "" for column in columns]
        lines.append(f"| {kind} | {bounds[kind]:.0e} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measured_step(part: str, results: Path) -> str:
    """A training step beside the stock one."""
    found, ceiling = newest(part, results), newest("ceiling", results)
    if found is None:
        return NOT_YET
    return step_table(found, max(row.get("tflops", 0) for row in ceiling["rows"]) if ceiling else None)


def memory_table(results: Path) -> str:
    """Foreseen and measured."""
    lines = ["| | foreseen, GiB | measured, GiB | ratio |", "|---|---|---|---|"]
    for part, title in (("memory", "bf16"), ("memory-nf4", "NF4")):
        found = newest(part, results)
        if found is None or found["measured_bytes"] is None:
            lines.append(f"| {title} | | not measured yet | |")
            continue
        way = TITLES[found.get("variant", "moslora")]
        size = f"{found['shape']}, {found['layers']} layers, {found['rows']} records of {found['tokens']} tokens"
        lines.append(
            f"| {title}, {way}: {size} | {found['foreseen_bytes'] / 2**30:.1f} | "
            f"{found['measured_bytes'] / 2**30:.1f} | {found['foreseen_over_measured']:.2f} |"
        )
    return "\n".join(lines)


def train_table(results: Path) -> str:
    """The digits recipe's steps."""
    found = newest("train", results)
    if found is None:
        return NOT_YET
    steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found["steps_s"].items())
    scores = ", ".join(f"{name} {score:.1f}" for name, score in found["scores"].items())
    return (
        f"`moslora train digits_moslora --deepspeed zero2`: the loss falls from {found['loss_at_first']:.3f} to "
        f"{found['loss_at_last']:.3f} (means of the first and last quarter of what is logged). Scores: {scores}. "
        f"Seconds, start-up of each program included: {steps}."
    )


def answer_table(results: Path) -> str:
    """Questions a second."""
    found = newest("eval", results)
    if found is None:
        return NOT_YET
    lines = [
        f"{found['model']}, {found['questions']} questions, batches of {found['batch_size']}. The weights are random, "
        "so next words lie close together, and rounding in bf16 decides more often than it does with a trained model.",
        "",
        "| | questions/s | ratio | identical answers |",
        "|---|---|---|---|",
    ]
    for name, title in WAYS.items():
        rate = found["questions_a_second"][name]
        if name == "batched":
            lines.append(f"| {title} | {rate:.1f} | | |")
        else:
            same = 100 * (1 - len(found["flips"][name]) / found["questions"])
            lines.append(f"| {title} | {rate:.1f} | **{found['ratio'][name]:.1f}** | {same:.1f} % |")
    return "\n".join(lines)


def ceiling_table(results: Path) -> str:
    """Products and a copy."""
    found = newest("ceiling", results)
    if found is None:
        return NOT_YET
    lines = ["| | |", "|---|---|"]
    for row in found["rows"]:
        if "tflops" in row:
            lines.append(f"| bf16 product {' x '.join(map(str, row['size']))} | {row['tflops']:.0f} TFLOP/s |")
        else:
            lines.append(f"| copy, bytes read and written | {row['terabytes_a_second']:.2f} TB/s |")
    return "\n".join(lines)


def tables(results: Path = RESULTS) -> dict[str, Callable[[], str]]:
    """Every table by its mark."""
    return {
        "gpu-machine": lambda: machine_line(results),
        "gpu-step": lambda: measured_step("bench", results),
        "gpu-step-nf4": lambda: measured_step("nf4", results),
        "gpu-memory": lambda: memory_table(results),
        "gpu-train": lambda: train_table(results),
        "gpu-answering": lambda: answer_table(results),
        "gpu-adapter": lambda: adapter_table(results),
        "gpu-ceiling": lambda: ceiling_table(results),
    }


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    write_tables(PAGE, tables(), check=args.check)


if __name__ == "__main__":
    main()
