"""Make tables like those of the nine benchmarks, to try asking and scoring without the benchmarks themselves.

    python scripts/make_benchmarks_like.py -o DIR

The real tables cannot be passed on. DIR/NAME.tsv has the columns of the real one, its names of abilities and subtasks,
circular groups and pictures given by reference, and texts that are easily spoiled; DIR stands for LMUData. DIR/key.json
holds, by table and index, what a model that is right and one that is wrong would say. What is asked has no worth as a
test of a model. The same seed and number give the same bytes.

Known and meant: options with the text None, NA, N/A or null are missing values to pandas, so to VLMEvalKit; no right
answer is one of them. Numbers alone in a column with gaps become 3.0 when VLMEvalKit itself reads the table. Lists in
MathVista (`never_right` in the key) are scored as wrong by ms-vlmeval 0.0.20 whatever the model says.

MMBench's test tables come with answers, which the public ones lack: `--no-test-answers` leaves the column out.
`--rough` makes them harder to read: missing answers, pictures as files, indices that are no numbers, 3.0 for 3.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from synthetic.benchmarks.choice_sets import ai2d, mmbench, science_qa, seed_bench
from synthetic.benchmarks.names import Key, Made, Row
from synthetic.benchmarks.open_sets import math_vista, mm_vet, mme, text_vqa
from synthetic.benchmarks.rough import roughen

from moslora_xtuner.errors import MoSLoRAError, UsageError
from moslora_xtuner.output import atomic_folder, claim

KIND = "benchmarks like the paper's"
FEWEST = 20
"""Questions a table: with fewer, one of MMBench's 20 abilities or MM-Vet's six capabilities would be missing."""
MAKERS: dict[str, Callable[[int, int], Made]] = {
    "MMBench_TEST_EN": partial(mmbench, language="en", split="test"),
    "MMBench_TEST_CN": partial(mmbench, language="cn", split="test"),
    "MMBench_DEV_EN": partial(mmbench, language="en", split="dev"),
    "MMBench_DEV_CN": partial(mmbench, language="cn", split="dev"),
    "SEEDBench_IMG": seed_bench,
    "AI2D_TEST": ai2d,
    "ScienceQA_TEST": science_qa,
    "TextVQA_VAL": text_vqa,
    "MathVista_MINI": math_vista,
    "MMVet": mm_vet,
    "MME": mme,
}
DATASETS = tuple(MAKERS)


def _table(rows: list[Row], columns: list[str]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, delimiter="\t", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def make_benchmarks(
    folder: Path, questions: int = 24, seed: int = 0, *, test_answers: bool = True, rough: bool = False
) -> dict[str, Any]:
    """Write NAME.tsv for each of DATASETS and key.json into a folder of their own; returns the key.

    A folder made with the same settings is written again, to the same bytes.

    Args:
        folder: where; it appears whole or not at all.
        questions: in each table; a question of MMBench counts once, not per rotation, and MME has a multiple of 28.
        seed: of the pictures and of what is asked of them.
        test_answers: whether MMBench's test tables have the column `answer`. The key has their answers in any case.
        rough: whether they are made harder to read (`synthetic/benchmarks/rough.py`).

    Returns:
        {dataset: {index as text: {"right": ..., "wrong": ...}}}; for MathVista_MINI also "right_value" and
        "wrong_value", which a judge would extract, and "never_right": True where VLMEvalKit cannot score the answer.
        Where a table has no answer to a question, the key has one all the same.

    Raises:
        OutputError: the folder holds something else or was made with other settings, or the disk is full.
        UsageError: fewer than 20 questions are asked for.
    """
    if questions < FEWEST:
        raise UsageError(f"{questions} questions: ask for at least {FEWEST}, so that every ability has one")
    settings = {"questions": questions, "seed": seed, "test_answers": test_answers, "rough": rough}
    if folder.is_dir() and any(folder.iterdir()):
        claim(folder, KIND, settings)
    key: dict[str, Key] = {}
    with atomic_folder(folder, KIND) as beside:
        claim(beside, KIND, settings)
        for name, make in MAKERS.items():
            rows, key[name] = make(seed, questions)
            if rough:
                rows, key[name] = roughen(name, rows, key[name], beside)
            hidden = name.startswith("MMBench_TEST") and not test_answers
            columns = [column for column in rows[0] if not (hidden and column == "answer")]
            (beside / f"{name}.tsv").write_text(_table(rows, columns), encoding="utf-8", newline="\n")
        (beside / "key.json").write_text(json.dumps(key, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return key


def main() -> None:
    """Parse the command line, write, and say how many rows each table has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="a folder of its own, to be named as LMUData")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--questions", type=int, default=24, help="in each table, at least 20 (default: 24)")
    parser.add_argument(
        "--test-answers", action=argparse.BooleanOptionalAction, default=True, help="answers in MMBench's test tables"
    )
    parser.add_argument("--rough", action="store_true", help="missing answers, pictures as files, other types")
    args = parser.parse_args()
    try:
        key = make_benchmarks(args.out, args.questions, args.seed, test_answers=args.test_answers, rough=args.rough)
    except MoSLoRAError as fault:
        print(f"error: {fault}", file=sys.stderr)
        raise SystemExit(fault.exit_code) from None
    for name, answers in key.items():
        print(f"{name:<16}{len(answers):>6} rows")
    print(f"\n{args.out / 'key.json'}: what to answer")


if __name__ == "__main__":
    main()
