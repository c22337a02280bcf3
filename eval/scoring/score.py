"""From answers to one entry of scores.json: VLMEvalKit scores, this module reads what it wrote."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError, MoSLoRAError

from ..judges.base import AnyJudge
from ..tasks.prompts import options
from ..tasks.questions import Task, ability_of
from ..tasks.registry import ABILITIES, EXACT, MME_COGNITION, MME_PERCEPTION, MME_POINTS, OFFSET, Benchmark
from ..vlmeval_imports import captured, environment
from . import open_answers
from .patches import judged_by, scratch_table

Outcome = dict[str, Any]

_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Scored:
    """One benchmark's entry for scores.json, the outcome of each unit, and right/wrong by question index."""

    entry: dict[str, Any]
    outcomes: list[Outcome]
    hits: dict[str, float]


def prediction_table(task: Task, answers: Sequence[str]) -> Any:
    """VLMEvalKit's prediction table: the asked rows of its data without images, with the answers.

    A character that no XML may hold stands as U+FFFD: an xlsx cannot hold half of a surrogate pair (nor can
    VLMEvalKit's own), and a control character would be read again as the text _x0001_.
    """
    frame = task.dataset.data.iloc[[item.place for item in task.asked]].copy()
    frame = frame.drop(columns=[name for name in ("image",) if name in frame])
    frame["prediction"] = [_UNWRITABLE.sub("\ufffd", answer) for answer in answers]
    if 0 in set(frame["index"]) and "g_index" not in frame and OFFSET in set(frame["index"]):
        # VLMEvalKit takes index <= 1e6 for unrotated: rotation 1 of question 0 would count as one.
        frame["g_index"] = [int(index) % OFFSET for index in frame["index"]]
    return frame


def write_table(frame: Any, path: Path) -> None:
    """Write the table as xlsx; an answer such as "=1+1" or a web address stays a text."""
    import pandas

    plain = {"options": {"strings_to_formulas": False, "strings_to_urls": False}}
    with pandas.ExcelWriter(path, engine="xlsxwriter", engine_kwargs=plain) as writer:
        frame.to_excel(writer, index=False)


@dataclass(frozen=True)
class Place:
    """Where VLMEvalKit scores: a folder that is made anew, the name of its files, the tables, the log."""

    folder: Path
    name: str
    data_root: Path
    log: Path


def score(
    task: Task, answers: Sequence[str], place: Place, *, judge: str = EXACT, verdicts: AnyJudge | None = None
) -> Scored:
    """Let VLMEvalKit score the answers in a fresh folder, asking `verdicts` where it would ask a judge.

    Raises JudgeAway when the judge does not answer, EvaluationError where VLMEvalKit fails.
    """
    benchmark, folder = task.benchmark, place.folder
    if folder.exists():  # _auxmatch and _result files of other answers would be used again
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    table = folder / f"{place.name}_{benchmark.dataset}.xlsx"
    frame = prediction_table(task, answers)
    write_table(frame, table)
    # Scored from a pickle of the same table: read back from xlsx, "7" is a number, and one empty answer in
    # the column turns every "7" into 7.0, which no longer equals the answer "7".
    typed = table.with_suffix(".pkl")
    frame.to_pickle(typed)
    settings = {"LMUData": str(place.data_root), "PRINT_VANILLA": "1", "PRED_FORMAT": "xlsx", "EVAL_FORMAT": "csv"}
    workers = verdicts.workers if verdicts is not None else min(4, os.cpu_count() or 1)
    with (
        scratch_table(),
        captured(place.log),
        environment(**settings),
        judged_by(verdicts),
    ):
        try:
            task.dataset.evaluate(str(typed), model=judge, nproc=workers)
        except MoSLoRAError:  # the judge is away, or its verdicts cannot be written
            raise
        except Exception as error:
            raise EvaluationError(
                f"VLMEvalKit failed to score {benchmark.dataset} for {place.name}: "
                f"{type(error).__name__}: {error}. Its own words stand in {place.log}."
            ) from error
    reader = {"mcq": _multiple_choice, "yesno": _yes_no, "vqa": _short_answers, "open": _open}[benchmark.kind]
    entry, outcomes, hits = reader(benchmark, frame, table, judge)
    entry["judge"] = judge if benchmark.judge is not None else None
    entry.update(questions=len(frame), units=len(outcomes), unit=benchmark.unit)
    entry["aggregate"] = benchmark.aggregate
    _cross_check(benchmark, entry, outcomes)
    return Scored(entry, outcomes, hits)


def from_outcomes(aggregate: str, outcomes: Sequence[Outcome]) -> float:
    """The overall score that the outcomes of all units give, in the benchmark's own units."""
    groups: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome["ability"] if aggregate == "subtask_sum" else ""].append(outcome["score"])
    means = [sum(values) / len(values) for values in groups.values()]
    return sum(means) if aggregate == "subtask_sum" else 100 * means[0]


def _cross_check(benchmark: Benchmark, entry: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    again = from_outcomes(benchmark.aggregate, outcomes)
    if not math.isclose(again, entry["overall"], abs_tol=1e-4 * entry["scale"]):
        raise EvaluationError(
            f"{benchmark.dataset}: VLMEvalKit's overall {entry['overall']} differs from the {again} that its "
            "own per-question results give. Do not trust this score; the prediction table is unchanged."
        )


def _table(table: Path, suffix: str) -> Any:
    import pandas

    path = table.with_name(table.name.removesuffix(".xlsx") + suffix)
    if not path.is_file():
        raise EvaluationError(f"VLMEvalKit did not write {path}; its log in the run folder says why.")
    if suffix.endswith(".xlsx"):
        return pandas.read_excel(path, keep_default_na=False)
    return pandas.read_csv(path)


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
) -> tuple[dict[str, Any], list[Outcome], dict[str, float]]:
    from vlmeval.utils import can_infer

    records: list[dict[str, Any]] = frame.to_dict("records")
    names = sorted({ability_of(row) for row in records} - {""}, key=_ability_order)
    row = _row(benchmark, _table(table, "_acc.csv"))
    entry: dict[str, Any] = {"overall": 100 * float(row["Overall"]), "scale": 100.0}
    entry["abilities"] = _percentages(row, names)
    if "l2-category" in frame and "category" in frame:
        entry["categories"] = _percentages(row, sorted(set(map(str, frame["category"]))))
    entry["parse_failures"] = sum(not can_infer(row["prediction"], options(row)) for row in records)
    entry["chance"] = _chance(benchmark, records)
    result = _table(table, f"_{judge}_result.xlsx").to_dict("records")
    entry["judge_failures"] = sum("randomly generate one" in str(row.get("log")) for row in result)
    hits = {str(row["index"]): float(row["hit"]) for row in result}
    vanilla: dict[str, float] = {}
    if benchmark.circular:
        every = _table(table, "_acc_all.csv")
        first = every[every["split"].str.startswith("vanilla_0")]
        plain = _row(benchmark, first.assign(split=first["split"].str.removeprefix("vanilla_0_")))
        entry["vanilla"] = {"overall": 100 * float(plain["Overall"]), "abilities": _percentages(plain, names)}
        each = _table(table, f"_{judge}_vanilla_circ0_result.xlsx").to_dict("records")
        vanilla = {str(row["index"]): float(row["hit"]) for row in each}
    outcomes = []
    for row in result:
        outcome: Outcome = {"unit": str(row["index"]), "score": float(row["hit"]), "ability": ability_of(row)}
        if benchmark.circular:
            outcome["vanilla"] = vanilla[outcome["unit"]]
        outcomes.append(outcome)
    return entry, outcomes, vanilla if benchmark.circular else hits


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


def _yes_no(
    benchmark: Benchmark, frame: Any, table: Path, judge: str
) -> tuple[dict[str, Any], list[Outcome], dict[str, float]]:
    row = _row(benchmark, _table(table, "_score.csv"))
    subtasks = sorted(set(map(str, frame["category"])))
    unknown = [name for name in subtasks if name not in MME_PERCEPTION + MME_COGNITION]
    if unknown:
        raise EvaluationError(f"{benchmark.dataset}: {', '.join(unknown)} are no subtasks of MME.")
    entry: dict[str, Any] = {"overall": float(row["perception"]) + float(row["reasoning"])}
    entry["scale"] = benchmark.scale or MME_POINTS * len(subtasks)
    entry["abilities"] = {name: float(row[name]) for name in subtasks}
    entry["perception"], entry["cognition"] = float(row["perception"]), float(row["reasoning"])
    # A coin: 50 points of accuracy and 25 of accuracy+ in each subtask.
    guess = dict.fromkeys(subtasks, 75.0)
    entry["chance"] = {"overall": sum(guess.values()), "abilities": guess}
    answers = _table(table, "_auxmatch.xlsx").to_dict("records")
    entry["parse_failures"] = sum(row["extracted"] == "Unknown" for row in answers)
    hits = {str(row["index"]): float(bool(row["score"])) for row in answers}
    pairs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in answers:
        pairs[(str(row["category"]), str(row["image_path"]))].append(float(bool(row["score"])))
    outcomes = [
        {"unit": f"{subtask}/{image}", "ability": subtask, "score": 50 * sum(pair) + 100 * min(pair)}
        for (subtask, image), pair in pairs.items()
    ]
    return entry, outcomes, hits


def _short_answers(
    benchmark: Benchmark, frame: Any, table: Path, judge: str
) -> tuple[dict[str, Any], list[Outcome], dict[str, float]]:
    row = _row(benchmark, _table(table, "_acc.csv"))
    names = sorted({ability_of(row) for row in frame.to_dict("records")} - {""}, key=_ability_order)
    entry: dict[str, Any] = {"overall": float(row["Overall"]), "scale": 100.0, "parse_failures": 0}
    entry["abilities"] = {name: float(row[name]) for name in names if name in row}
    entry["chance"] = None
    each = _table(table, "_results.xlsx").to_dict("records")
    hits = {str(row["index"]): float(row["eval_score"]) for row in each}
    outcomes = [
        {"unit": str(row["index"]), "score": float(row["eval_score"]), "ability": ability_of(row)} for row in each
    ]
    return entry, outcomes, hits


def _open(
    benchmark: Benchmark, frame: Any, table: Path, judge: str
) -> tuple[dict[str, Any], list[Outcome], dict[str, float]]:
    entry, outcomes = open_answers.read(benchmark.dataset, table, judge)
    return entry, outcomes, {outcome["unit"]: outcome["score"] for outcome in outcomes}
