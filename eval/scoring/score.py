"""From answers to one entry of scores.json: VLMEvalKit scores, this module reads what it wrote."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_write
from moslora_xtuner.errors import EvaluationError, MoSLoRAError
from moslora_xtuner.output import room_in

from ..judges.asking import Asking
from ..judges.base import AnyJudge
from ..judges.openai_judge import STANDS_FOR
from ..results.sheets import XLSX
from ..tasks.questions import Task
from ..tasks.registry import EXACT, OFFSET, Benchmark
from ..vlmeval_imports import captured, environment
from . import kit_fixes, labels, open_answers, own_table, written
from .kit_fixes import corrected
from .patches import in_this_process, judged_by, parts_are_scored, plain_tables, scratch_table

Outcome = dict[str, Any]

_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Scored:
    """One benchmark's entry for scores.json, the outcome of each unit, and right/wrong by question index."""

    entry: dict[str, Any]
    outcomes: list[Outcome]
    hits: dict[str, float | None]


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
    """Write the table as xlsx; an answer such as "=1+1" or a web address stays a text. Raises OutputError."""
    import pandas

    whole = BytesIO()  # a zip that cannot be closed on a full disk complains until the program ends
    with pandas.ExcelWriter(whole, engine="xlsxwriter", engine_kwargs=XLSX) as writer:
        frame.to_excel(writer, index=False)
    atomic_write(path, whole.getvalue())


@dataclass(frozen=True)
class Place:
    """Where VLMEvalKit scores: a folder that is made anew, the name of its files, the tables, the log."""

    folder: Path
    name: str
    data_root: Path
    log: Path


def score(
    task: Task,
    answers: Sequence[str],
    place: Place,
    *,
    judge: str = EXACT,
    verdicts: AnyJudge | None = None,
    fixes: bool = False,
) -> Scored:
    """Let VLMEvalKit score the answers in a fresh folder, asking `verdicts` where it would ask a judge.

    `fixes`: with its known defects corrected (`kit_fixes.py`), which the entry names.
    Raises JudgeAway when the judge does not answer, EvaluationError where VLMEvalKit fails, DiskFull.
    """
    with room_in(place.folder):
        if task.benchmark.kind == "label":
            return _labelled(task, answers)
        return _score(task, answers, place, judge, None if verdicts is None else Asking(verdicts), fixes)


def _score(task: Task, answers: Sequence[str], place: Place, judge: str, asking: Asking | None, fixes: bool) -> Scored:
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
    workers = asking.judge.workers if asking is not None else min(4, os.cpu_count() or 1)
    with (
        scratch_table(),
        plain_tables(),
        in_this_process(),
        captured(place.log),
        environment(**settings),
        judged_by(asking),
        parts_are_scored(benchmark),
        corrected(fixes),
    ):
        try:
            if (own := _own_rule(task, frame, asking)) is None:
                with room_in(folder):
                    task.dataset.evaluate(str(typed), model=judge, nproc=workers)
        except MoSLoRAError:  # the judge is away, or its verdicts cannot be written
            raise
        except Exception as error:
            raise EvaluationError(
                f"VLMEvalKit failed to score {benchmark.dataset} for {place.name}: "
                f"{type(error).__name__}: {error}. Its own words stand in {place.log}."
            ) from error
    if own is not None:
        entry, outcomes = own
        hits: written.Hits = {outcome["unit"]: outcome["score"] for outcome in outcomes}
    else:
        with corrected(fixes):
            entry, outcomes, hits = written.read(benchmark, frame, table, judge)
    entry["judge"] = judge if benchmark.judge is not None else None
    if fixes and (named := kit_fixes.names(benchmark)):
        entry["kit_fixes"] = named
    if asking is not None:
        asking.check()
        entry |= _verdicts(benchmark, judge, asking)
    _cross_check(benchmark, entry, outcomes)
    return _scored(benchmark, entry, outcomes, hits, len(frame))


def _labelled(task: Task, answers: Sequence[str]) -> Scored:
    """Scored by the authors' rule; VLMEvalKit has no part in it."""
    rows = task.rows()
    asked = [{**rows[item.place], "prediction": text} for item, text in zip(task.asked, answers, strict=True)]
    entry, outcomes = labels.score_labels(task.benchmark, asked)
    entry["judge"] = None
    hits = {outcome["unit"]: outcome["score"] for outcome in outcomes}
    return _scored(task.benchmark, entry, outcomes, hits, len(asked))


def _scored(
    benchmark: Benchmark, entry: dict[str, Any], outcomes: list[Outcome], hits: written.Hits, questions: int
) -> Scored:
    entry.update(questions=questions, units=len(outcomes), unit=benchmark.unit, aggregate=benchmark.aggregate)
    return Scored(entry, outcomes, hits)


def _verdicts(benchmark: Benchmark, judge: str, asking: Asking) -> dict[str, Any]:
    """What a reader must know of the verdicts: those that are unread, and in what VLMEvalKit would have done otherwise.

    `unread_verdicts`: index of the question to the reason.
    """
    found: dict[str, Any] = {}
    if asking.unread:
        found["unread_verdicts"] = dict(asking.unread)
    departures = asking.departures
    if judge != benchmark.judge and benchmark.judge is not None:
        stands = STANDS_FOR.get(benchmark.judge, benchmark.judge)
        departures.insert(0, f"VLMEvalKit's judge is {benchmark.judge} ({stands}), not {judge}")
    if departures:
        found["judge_departures"] = departures
    return found


def _own_rule(task: Task, frame: Any, verdicts: Asking | None) -> open_answers.Result | None:
    """The result of a table of one's own, of a kind that VLMEvalKit has no dataset class for; None for all else."""
    if task.benchmark.table is None or task.benchmark.kind not in ("vqa", "open"):
        return None
    rows = frame.to_dict("records")
    if task.benchmark.kind == "vqa":
        return own_table.short_answers(rows)
    assert verdicts is not None  # Judging.check has seen to it
    return own_table.graded_answers(rows, verdicts)


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
