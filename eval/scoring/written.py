"""What VLMEvalKit wrote when it scored, read back: one entry of scores.json, and the outcome of each unit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError

from ..tasks.prompts import options
from ..tasks.questions import ability_of
from ..tasks.registry import ABILITIES, MME_COGNITION, MME_PERCEPTION, MME_POINTS, OFFSET, Benchmark
from . import open_answers, rotations, unread
from .patches import read_csv

Outcome = dict[str, Any]
Hits = dict[str, float | None]
"""0 (wrong) to 1 (right) by question index; None where nobody has said."""


def read(benchmark: Benchmark, frame: Any, table: Path, judge: str) -> tuple[dict[str, Any], list[Outcome], Hits]:
    """The entry, the outcomes, and right or wrong by question index.

    Args:
        benchmark: that was scored.
        frame: what was handed to VLMEvalKit.
        table: the file of its predictions; all others have names that begin with its.
        judge: as VLMEvalKit's files name it.

    Raises:
        EvaluationError: a file is missing, or does not say what it says for such a benchmark.
    """
    readers = {"mcq": _multiple_choice, "yesno": _yes_no, "vqa": _short_answers, "open": _open}
    reader = _right_or_wrong if benchmark.kind == "yesno" and benchmark.table else readers[benchmark.kind]
    return reader(benchmark, frame, table, judge)


def _table(table: Path, suffix: str) -> Any:
    path = table.with_name(table.name.removesuffix(".xlsx") + suffix)
    if not path.is_file():
        raise EvaluationError(f"VLMEvalKit did not write {path}; its log in the run folder says why.")
    if suffix.endswith(".xlsx"):
        import pandas

        return pandas.read_excel(path, keep_default_na=False)
    return read_csv(path)


def _row(benchmark: Benchmark, frame: Any) -> dict[str, Any]:
    """The row of an accuracy file that counts: the only one, or that of the benchmark's split."""
    rows = frame.to_dict("records")
    wanted = rows if len(rows) == 1 else [row for row in rows if row.get("split") == benchmark.split]
    if len(wanted) != 1:
        names = ", ".join(str(row.get("split")) for row in rows)
        raise EvaluationError(f"{benchmark.dataset}: no one row for split {benchmark.split!r} among {names}.")
    return {str(name): value for name, value in wanted[0].items()}


def _percentages(row: dict[str, Any], names: Sequence[str]) -> dict[str, float]:
    found = {name: 100 * float(row[name]) for name in names if name in row}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _multiple_choice(
    benchmark: Benchmark, frame: Any, table: Path, judge: str
) -> tuple[dict[str, Any], list[Outcome], Hits]:

    records: list[dict[str, Any]] = frame.to_dict("records")
    names = sorted({ability_of(row) for row in records} - {""}, key=_ability_order)
    row = _row(benchmark, _table(table, "_acc.csv"))
    entry: dict[str, Any] = {"overall": 100 * float(row["Overall"]), "scale": 100.0}
    entry["abilities"] = _percentages(row, names)
    if "l2-category" in frame and "category" in frame:
        entry["categories"] = _percentages(row, sorted(set(map(str, frame["category"]))))
    entry["parse_failures"] = sum(map(unread.choice, records))
    entry["chance"] = _chance(benchmark, records)
    result = _table(table, f"_{judge}_result.xlsx").to_dict("records")
    entry["judge_failures"] = sum("randomly generate one" in str(row.get("log")) for row in result)
    hits: Hits = {str(row["index"]): float(row["hit"]) for row in result}
    vanilla: dict[str, float] = {}
    if benchmark.circular:
        every = _table(table, "_acc_all.csv")
        first = every[every["split"].str.startswith("vanilla_0")]
        plain = _row(benchmark, first.assign(split=first["split"].str.removeprefix("vanilla_0_")))
        entry["vanilla"] = {"overall": 100 * float(plain["Overall"]), "abilities": _percentages(plain, names)}
        each = _table(table, f"_{judge}_vanilla_circ0_result.xlsx").to_dict("records")
        vanilla = {str(row["index"]): float(row["hit"]) for row in each}
        hits = rotations.hits(records, result, vanilla, judge)
    outcomes = []
    for row in result:
        outcome: Outcome = {"unit": str(row["index"]), "score": float(row["hit"]), "ability": ability_of(row)}
        if benchmark.circular:
            outcome["vanilla"] = vanilla[outcome["unit"]]
        outcomes.append(outcome)
    return entry, outcomes, hits


def _ability_order(name: str) -> tuple[int, str]:
    return (ABILITIES.index(name) if name in ABILITIES else len(ABILITIES), name)


def _chance(benchmark: Benchmark, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What uniform guessing scores, per cent: 1/n a question, and (1/n)^k under the circular rule.

    n options, k rotations asked of the question (VLMEvalKit's TSVs hold k = n).
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in records:
        groups[str(int(row["index"]) % OFFSET) if benchmark.circular else str(row["index"])].append(row)
    rule: dict[str, list[float]] = defaultdict(list)
    plain: dict[str, list[float]] = defaultdict(list)
    for rows in groups.values():
        guess = 1 / max(1, len(options(rows[0])))
        for name in {"", ability_of(rows[0])}:
            rule[name].append(guess ** len(rows))
            plain[name].append(guess)

    def part(values: dict[str, list[float]]) -> dict[str, Any]:
        means = {name: 100 * sum(items) / len(items) for name, items in values.items()}
        abilities = {name: means[name] for name in sorted(means, key=_ability_order) if name}
        return {"overall": means[""], "abilities": abilities}

    chance = part(rule)
    if benchmark.circular:
        chance["vanilla"] = part(plain)
    return chance


def _yes_no(benchmark: Benchmark, frame: Any, table: Path, judge: str) -> tuple[dict[str, Any], list[Outcome], Hits]:
    row = _row(benchmark, _table(table, "_score.csv"))
    subtasks = sorted(set(map(str, frame["category"])))
    unknown = [name for name in subtasks if name not in MME_PERCEPTION + MME_COGNITION]
    if unknown:
        raise EvaluationError(f"{benchmark.dataset}: {', '.join(unknown)} are no subtasks of MME.")
    entry: dict[str, Any] = {"overall": float(row["perception"]) + float(row["reasoning"])}
    entry["scale"] = MME_POINTS * len(subtasks)  # all of MME has 2800; `--limit` may ask a part
    entry["abilities"] = {name: float(row[name]) for name in subtasks}
    entry["perception"], entry["cognition"] = float(row["perception"]), float(row["reasoning"])
    # A coin: 50 points of accuracy and 25 of accuracy+ in each subtask.
    guess = dict.fromkeys(subtasks, 75.0)
    entry["chance"] = {"overall": sum(guess.values()), "abilities": guess}
    answers = _table(table, "_auxmatch.xlsx").to_dict("records")
    entry["parse_failures"] = sum(map(unread.yes_no, answers))
    hits: Hits = {str(row["index"]): float(bool(row["score"])) for row in answers}
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in answers:
        pairs[(str(row["category"]), str(row["image_path"]))].append(float(bool(row["score"])))
    outcomes = [
        {"unit": f"{subtask}/{image}", "ability": subtask, "score": 50 * sum(pair) + 100 * min(pair)}
        for (subtask, image), pair in pairs.items()
    ]
    return entry, outcomes, hits


def _right_or_wrong(
    benchmark: Benchmark, frame: Any, table: Path, judge: str
) -> tuple[dict[str, Any], list[Outcome], Hits]:
    """Yes/no questions in no pairs: the share that is right."""
    row = _row(benchmark, _table(table, "_score.csv"))
    names = sorted({ability_of(row) for row in frame.to_dict("records")} - {""})
    entry: dict[str, Any] = {"overall": float(row["Overall"]), "scale": 100.0}
    entry["abilities"] = {name: float(row[name]) for name in names if name in row}
    entry["chance"] = {"overall": 50.0, "abilities": dict.fromkeys(entry["abilities"], 50.0)}
    answers = _table(table, "_auxmatch.xlsx").to_dict("records")
    entry["parse_failures"] = sum(map(unread.yes_no, answers))
    hits: Hits = {str(row["index"]): float(bool(row["score"])) for row in answers}
    outcomes = [
        {"unit": str(row["index"]), "score": float(bool(row["score"])), "ability": ability_of(row)} for row in answers
    ]
    return entry, outcomes, hits


def _short_answers(
    benchmark: Benchmark, frame: Any, table: Path, judge: str
) -> tuple[dict[str, Any], list[Outcome], Hits]:
    row = _row(benchmark, _table(table, "_acc.csv"))
    names = sorted({ability_of(row) for row in frame.to_dict("records")} - {""}, key=_ability_order)
    entry: dict[str, Any] = {"overall": float(row["Overall"]), "scale": 100.0}
    entry["parse_failures"] = sum(unread.words(str(answer)) for answer in frame["prediction"])
    entry["abilities"] = {name: float(row[name]) for name in names if name in row}
    entry["chance"] = None
    each = _table(table, "_results.xlsx").to_dict("records")
    hits: Hits = {str(row["index"]): float(row["eval_score"]) for row in each}
    outcomes = [
        {"unit": str(row["index"]), "score": float(row["eval_score"]), "ability": ability_of(row)} for row in each
    ]
    return entry, outcomes, hits


def _open(benchmark: Benchmark, frame: Any, table: Path, judge: str) -> tuple[dict[str, Any], list[Outcome], Hits]:
    entry, outcomes = open_answers.read(benchmark.dataset, table, judge)
    return entry, outcomes, {outcome["unit"]: outcome["score"] for outcome in outcomes}
