"""Answering DigitsVQA: `moslora eval` against VLMEvalKit's own loop, one question at a time, with the same weights.

    python scripts/bench_eval.py --work runs/bench_eval --model EXPORT --write docs/results

Three ways, interleaved, each repeat on empty folders, the model loaded beforehand:

    stock     VLMEvalKit's loop, `generate` of transformers: what a model class of VLMEvalKit does
    one       VLMEvalKit's loop, our model registered there: one question at a time, images remembered
    batched   ours: batches of like length, images encoded once

A figure is the median of the repeats. Answers are compared text by text, every difference is listed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.eval.random_llava import write_random_llava
from bench.eval.stock_model import stock_class
from bench.eval.titles import WAYS
from bench.training.shapes import SHAPES
from docs.marked_tables import write_tables
from gpu.machine import described, machine

from moslora_xtuner.eval import vlmeval_imports
from moslora_xtuner.eval.answering import answer
from moslora_xtuner.eval.models.resolve import find
from moslora_xtuner.eval.models.worker_pool import Pool
from moslora_xtuner.eval.tasks.load import LoadedTask, load
from moslora_xtuner.eval.tasks.registry import GROUPS, resolve
from moslora_xtuner.eval.vlmevalkit import DATA_ROOT, register

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
Answers = dict[str, dict[str, str]]


def main() -> None:
    """Measure, or only write the tables again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="folder for the data and what is answered")
    parser.add_argument("--model", help="what `moslora eval` takes (default: the base model that ships)")
    parser.add_argument("--questions", type=int, default=360, help="in each table")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shape", choices=SHAPES, help="a model of this size with random weights, instead of --model")
    parser.add_argument("--layers", type=int, help="of --shape: fewer layers")
    parser.add_argument("--out", type=Path, metavar="FILE", help="what was found, as JSON")
    parser.add_argument("--write", type=Path, help="folder for eval.json; docs/performance.md gets its table")
    parser.add_argument("--tables", type=Path, help="only write the tables, from this eval.json")
    args = parser.parse_args()
    if args.tables is not None:
        found = json.loads(args.tables.read_text())
    elif args.work is None:
        parser.error("--work or --tables")
    else:
        model = args.model
        if args.shape is not None:
            model = str(write_random_llava(SHAPES[args.shape].cut(args.layers, None, None), args.work / "model"))
        found = measure(args.work, model, args.questions, args.repeats, args.batch_size)
    tables = {"answering-machine": lambda: machine_line(found), "answering": lambda: answering_table(found)}
    print("\n\n".join(make() for make in tables.values()))
    if args.out is not None:
        args.out.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if args.write is not None:
        (args.write / "eval.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    if args.write is not None or args.tables is not None:
        write_tables(PAGE, tables)


def measure(work: Path, model: str | None, questions: int, repeats: int, batch_size: int) -> dict[str, Any]:
    """All of it."""
    from moslora_xtuner.data.digits.write import write_digits
    from moslora_xtuner.digits_base import digits_base

    root = write_digits(work / f"data-{questions}", scenes=16, test_questions=questions) / "LMUData"
    word = model or str(digits_base())
    os.environ[DATA_ROOT] = str(root)
    log = work / "vlmevalkit.log"
    tasks = load(resolve(["digits"]), root, log, quiet=True)
    ours = find(word)
    # What loads the model, giving what is timed.
    ways: dict[str, Callable[[], Callable[[Path], Answers]]] = {
        "stock": lambda: partial(own_loop, stock_class()(ours.folder), tasks, log),
        "one": lambda: partial(own_loop, registered(word), tasks, log),
        "batched": lambda: partial(batched, ours, ours.pool(1, batch_size), tasks, batch_size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    given: dict[str, Answers] = {}
    for number in range(repeats):
        for name, ready in ways.items():
            out = work / "answers" / name
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            run = ready()
            began = time.perf_counter()
            given[name] = run(out)
            seconds[name].append(time.perf_counter() - began)
            print(f"{number + 1}/{repeats} {name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    count = sum(len(task.asked) for task in tasks)
    rates = {name: count / median(values) for name, values in seconds.items()}
    return {
        "machine": machine(),
        "model": ours.name,
        "questions": count,
        "repeats": repeats,
        "batch_size": batch_size,
        "questions_a_second": rates,
        "ratio": {name: rates["batched"] / rates[name] for name in ("stock", "one")},
        "flips": {name: flips(given[name], given["batched"]) for name in ("stock", "one")},
    }


def registered(word: str) -> Any:
    """Our model as VLMEvalKit builds it."""
    register("moslora", word)
    from vlmeval.config import supported_VLM

    return supported_VLM["moslora"]()


def own_loop(model: Any, tasks: list[LoadedTask], log: Path, out: Path) -> Answers:
    """VLMEvalKit's `infer_data_job` on each table."""
    from vlmeval.inference import infer_data_job

    found: Answers = {}
    with vlmeval_imports.captured(log):
        for task in tasks:
            table = task.dataset.data.copy()
            infer_data_job(model, str(out), "model", task.dataset)
            predicted = task.dataset.data["prediction"]
            found[task.benchmark.dataset] = dict(zip(map(str, task.dataset.data["index"]), predicted, strict=True))
            task.dataset.data = table  # it takes the images out and puts its answers in
    return found


def batched(model: Any, pool: Pool, tasks: list[LoadedTask], batch_size: int, out: Path) -> Answers:
    """Our way to the answers, with their files."""
    found: Answers = {}
    for task in tasks:
        file = out / f"{task.benchmark.dataset}.jsonl"
        texts = answer(model, task, file, batch_size=batch_size, pool=lambda: pool, quiet=True).texts
        found[task.benchmark.dataset] = dict(zip((str(item.index) for item in task.asked), texts, strict=True))
    return found


def flips(one: Answers, other: Answers) -> list[dict[str, str]]:
    """Every question with two answers."""
    return [
        {"dataset": dataset, "index": index, "alone": text, "batched": other[dataset][index]}
        for dataset, answers in one.items()
        for index, text in answers.items()
        if text.strip() != other[dataset][index].strip()
    ]


def answering_table(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| | questions/s | ratio | identical answers |", "|---|---|---|---|"]
    for name, title in WAYS.items():
        rate = found["questions_a_second"][name]
        if name == "batched":
            lines.append(f"| {title} | {rate:.1f} | | |")
            continue
        same = 100 * (1 - len(found["flips"][name]) / found["questions"])
        lines.append(f"| {title} | {rate:.1f} | **{found['ratio'][name]:.1f}** | {same:.2f} % |")
    listed = [
        f"{item['dataset']} {item['index']} ({name}): {item['alone']!r} alone, {item['batched']!r} in its batch"
        for name, items in found["flips"].items()
        for item in items
    ]
    return "\n".join([*lines, "", f"Flips: {'; '.join(listed) or 'none'}."])


def machine_line(found: dict[str, Any]) -> str:
    """One line."""
    return (
        f"{described(found['machine'])}; {found['model']}, {found['questions']:,} questions of "
        f"{len(GROUPS['digits'])} tables, batches of {found['batch_size']}, median of {found['repeats']}."
    )


if __name__ == "__main__":
    main()
