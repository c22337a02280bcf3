"""`moslora eval --kit` with the real lm-evaluation-harness, its figures beside log-likelihoods computed here.

    bash scripts/test_lm_eval.sh        makes an environment with lm-eval and runs this

Needs no hub: the model is the packaged one, the tasks are small worlds in the harness's own form with local files.
Exits with 1 where a figure of the harness is not that of a plain loop over the options.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from moslora_xtuner.data.worlds.writing import write_worlds
from moslora_xtuner.digits_base import digits_base
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.report import harness_table
from moslora_xtuner.eval.results import harness_scores, scores
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.eval.tasks.registry import BENCHMARKS

SETS = ("boolq", "piqa", "ARC-Easy")
CHOICES = {
    "boolq": ["true", "false"],
    "piqa": ["solution1", "Lösung №2"],
    "ARC-Easy": [f"answer{n}" for n in range(1, 5)],
}


def rows_of(tables: Path, name: str) -> Iterator[dict[str, Any]]:
    """A small world's table as the harness reads questions: the labels are the options."""
    with (tables / f"SmallWorlds_{name}.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            place = BENCHMARKS[name].labels.index(row["answer"])
            yield {"question": row["question"], "choices": CHOICES[name], "label": place}


def write_task(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """A task file and its data."""
    data = folder / f"{name}.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    task = {
        "task": harness_scores.OWN_TASKS[name],
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


@torch.no_grad()
def by_hand(model: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Shares right of the option with the largest log p(option | question), and of that a character."""
    right = {"acc": 0, "acc_norm": 0}
    for row in rows:
        context = f"{row['question']}\nAnswer:"
        found = []
        for choice in row["choices"]:
            ids = tokenizer(f"{context} {choice}", return_tensors="pt")["input_ids"]
            begins = len(tokenizer(context)["input_ids"])
            likely = model(input_ids=ids).logits[0, begins - 1 : -1].float().log_softmax(-1)
            found.append(float(likely.gather(1, ids[0, begins:, None]).sum()))
        by_length = [value / len(choice) for value, choice in zip(found, row["choices"], strict=True)]
        for name, values in (("acc", found), ("acc_norm", by_length)):
            right[name] += max(range(len(values)), key=values.__getitem__) == row["label"]
    return {name: count / len(rows) for name, count in right.items()}


def main() -> int:
    """Run it, print both, and say whether they are equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, default=digits_base() / "llm", help="a language model's folder")
    parser.add_argument("--questions", type=int, default=24, help="of each set")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moslora-lm-eval-") as place:
        folder = Path(place)
        tables = write_worlds(folder / "worlds", records=8, test_questions=arguments.questions) / "LMUData"
        (folder / "kit").mkdir()
        rows = {name: list(rows_of(tables, name)) for name in SETS}
        for name in SETS:
            write_task(folder / "kit", name, rows[name])
            (tables / f"{name}.tsv").write_bytes((tables / f"SmallWorlds_{name}.tsv").read_bytes())
        settings = Settings(batch_size=16, precision=Precision.fp32, kit=True, kit_tasks=folder / "kit")
        (run,) = evaluate([arguments.model], [f"{name}_greedy" for name in SETS], tables, folder / "out", settings)
        print(harness_table.terminal([run]))
        found = harness_scores.read(run, scores.read(run).manifest.model_sha256)
    model = AutoModelForCausalLM.from_pretrained(arguments.model).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    differ = 0
    for name in SETS:
        mine = by_hand(model, tokenizer, rows[name])
        theirs = {metric: found[name].metrics[metric] for metric in mine}
        equal = all(abs(mine[metric] - theirs[metric]) < 1e-9 for metric in mine)
        differ += not equal
        print(f"{name}: by hand {mine}, lm-evaluation-harness {theirs}: {'equal' if equal else 'NOT EQUAL'}")
    return int(differ > 0)


if __name__ == "__main__":
    raise SystemExit(main())
