"""Three seeds of each adapter on DigitsVQA, same data and settings, with means and standard deviations.

    python scripts/study_digits.py -o runs/study --seeds 0 1 2
    python scripts/study_digits.py -o runs/study --write docs/results

LoRA, TS-Mixing (a fixed butterfly between A and B), MoSLoRA with an orthogonal and with a Kaiming mixer; and the
orthogonal one once more with all that makes a step cheaper (docs/performance.md). A seed
sets the training scenes, the order of the batches and the adapters' start; the test sets are always the same.
Whatever is done in the output folder is not done again, so the study can be interrupted and widened.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from datetime import date
from pathlib import Path
from typing import Any

from moslora_xtuner.digits_base import digits_base
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.results import scores
from moslora_xtuner.export.merge import export
from moslora_xtuner.output import MARKER, claim
from moslora_xtuner.quickstart import FAST, FULL, Size, make_data
from moslora_xtuner.training import launch
from moslora_xtuner.training.artifacts import ADAPTERS, MANIFEST
from moslora_xtuner.training.processes import default_processes
from moslora_xtuner.versions import installed_versions


def mixed(**fields: str) -> list[str]:
    """Config options that set the mixer's fields on both adapters; the recipe's own start is orthogonal."""
    parts = ("llm_lora", "visual_encoder_lora")
    return [f"model.{part}.{name}={value}" for part in parts for name, value in fields.items()]


CHEAPER = ("chunked_loss", "skip_padding_mask", "fused_adapters", "lean_mlp")
METHODS: dict[str, tuple[str, list[str]]] = {
    "LoRA": ("digits_lora", []),
    "TS-Mixing": ("digits_moslora", mixed(mixer="butterfly", mixer_init="None")),
    "MoSLoRA orthogonal": ("digits_moslora", []),
    "MoSLoRA Kaiming": ("digits_moslora", mixed(mixer_init="kaiming_uniform")),
    "MoSLoRA orthogonal, cheaper step": ("digits_moslora", [f"model.{way}=True" for way in CHEAPER]),
}
COLUMNS = ("DigitsMMBench_EN", "DigitsMMBench_CN", "DigitsMME", "DigitsTextVQA")


def train_one(out: Path, seed: int, method: str, size: Size) -> Path:
    """Train and export one method with one seed; returns the export."""
    base, data = digits_base(), out / f"data-{seed}"
    if not (data / "store" / MARKER).is_file():
        make_data(data, seed, size.scenes, size.test_questions)
    name = f"{method.lower().replace(',', '').replace(' ', '-')}-{seed}"
    run, model = out / "train" / name, out / "models" / name
    if not (run / ADAPTERS / MANIFEST).is_file():
        config, options = METHODS[method]
        launch.train(
            config,
            work_dir=run,
            cfg_options=[f"randomness.seed={seed}", *options],
            environment={"DIGITS_DATA": str(data.resolve()), "DIGITS_BASE": str(base)},
        )
    if not (model / MARKER).is_file():
        export(run, model, name=f"{method}, seed {seed}")
    return model


def summarise(out: Path, seeds: list[int]) -> dict[str, Any]:
    """Scores of every run by method, and how they were made."""
    runs = [scores.read(folder) for folder in sorted((out / "eval").iterdir()) if (folder / "scores.json").is_file()]
    rows: dict[str, list[dict[str, float]]] = {"base": [], **{method: [] for method in METHODS}}
    for run in runs:
        method = run.model.split(", seed ")[0]
        values = {name: 100 * entry["overall"] / entry["scale"] for name, entry in run.benchmarks.items()}
        values["mean"] = statistics.mean(values[name] for name in COLUMNS)
        values["FP-S"] = run.benchmarks["DigitsMMBench_EN"]["vanilla"]["abilities"]["FP-S"]
        rows[method].append(values)
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.processor() or platform.machine()}, no GPU, {default_processes()} processes",
        "versions": installed_versions(),
        "seeds": seeds,
        "scores": rows,
    }


def table(study: dict[str, Any]) -> str:
    """Markdown: mean and standard deviation over the seeds, each score on its 100-scale."""
    names = (*COLUMNS, "mean", "FP-S")
    titles = ("MMBench-EN", "MMBench-CN", "MME", "TextVQA", "mean", "FP-S, vanilla")
    lines = ["| method | seeds | " + " | ".join(titles) + " |", "|---" * (len(titles) + 2) + "|"]
    for method, rows in study["scores"].items():
        if rows:
            cells = []
            for name in names:
                values = [row[name] for row in rows]
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.1f}{spread}")
            lines.append(f"| {method} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--fast", action="store_true", help="a reduced set, to see that it works")
    parser.add_argument("--write", type=Path, help="folder for digits_study.json and digits_study.md")
    args = parser.parse_args()
    size = FAST if args.fast else FULL
    claim(args.out, "digits study", {"fast": args.fast})
    base = args.out / "models" / "base"
    if not (base / MARKER).is_file():
        export(digits_base(), base, name="base")
    # Seeds outside, methods inside: an interrupted study still compares like with like.
    for seed in args.seeds:
        models = [train_one(args.out, seed, method, size) for method in args.methods]
        test = args.out / f"data-{args.seeds[0]}" / "LMUData"
        evaluate([base, *models], ["digits"], test, args.out / "eval")
    study = summarise(args.out, args.seeds)
    print(table(study))
    if args.write:
        args.write.mkdir(parents=True, exist_ok=True)
        (args.write / "digits_study.json").write_text(json.dumps(study, indent=2) + "\n")
        (args.write / "digits_study.md").write_text(table(study))


if __name__ == "__main__":
    main()
