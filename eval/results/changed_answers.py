"""Which answers changed between the baseline and another run: paired by question, classified, counted, listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import parse_json
from moslora_xtuner.errors import DataError
from moslora_xtuner.json_log import text_of

from .sheets import write_csv

GAINED, LOST, CHANGED, UNTOLD, SAME = "gained", "lost", "changed", "untold", "same"
KINDS = (GAINED, LOST, CHANGED, UNTOLD, SAME)
_EPSILON = 1e-9
CSV_HEADER = [
    "model",
    "dataset",
    "index",
    "ability",
    "change",
    "answer",
    "baseline prediction",
    "prediction",
]


@dataclass(frozen=True)
class Answered:
    """One question as one run answered it; `hit` is 0 (wrong) to 1 (right), None where nobody says."""

    index: str
    unit: str
    ability: str
    question: str
    options: dict[str, str]
    answer: str
    prediction: str
    hit: float | None


@dataclass(frozen=True)
class Change:
    """One question that both were asked: what the baseline said, what the run said, and what that changed."""

    kind: str
    before: Answered
    after: Answered


@dataclass(frozen=True)
class Paired:
    """The changes of one run on one benchmark, and how many questions only one of the two was asked."""

    model: str
    dataset: str
    changes: tuple[Change, ...]
    unpaired: int

    def counts(self) -> Counter[str]:
        """How many questions of each kind."""
        return Counter(change.kind for change in self.changes)

    def by_ability(self) -> dict[str, Counter[str]]:
        """The same for each ability, in the order of the names; "" where the benchmark has none."""
        found: dict[str, Counter[str]] = {}
        for change in sorted(self.changes, key=lambda change: change.after.ability):
            found.setdefault(change.after.ability, Counter())[change.kind] += 1
        return found


def read(folder: Path, dataset: str) -> dict[str, Answered]:
    """The answers that a run keeps of a benchmark, by question index; empty where it keeps none.

    Raises DataError naming the line of answers/DATASET.jsonl that is broken.
    """
    path = folder / "answers" / f"{dataset}.jsonl"
    if not path.is_file():
        return {}
    found: dict[str, Answered] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                answered = _answered(parse_json(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                where = f"{path}, line {number}"
                raise DataError(f"{where} is broken ({type(error).__name__}: {error}). Evaluate again.") from error
            if answered.index in found:
                raise DataError(f"{path}, line {number}: the index {answered.index} stands there twice.")
            found[answered.index] = answered
    return found


def _answered(record: Mapping[str, Any]) -> Answered:
    hit = record["hit"]
    return Answered(
        index=str(record["index"]),
        unit=str(record["unit"]),
        ability=str(record["ability"]),
        question=str(record["question"]),
        options={str(letter): str(text) for letter, text in record["options"].items()},
        answer=str(record["answer"]),
        prediction=text_of(record, "prediction"),
        hit=None if hit is None else float(hit),
    )


def classify(before: Answered, after: Answered) -> str:
    """GAINED where the answer got right (or, with partial credit, better), LOST for the other way round.

    CHANGED where another text has the same worth, UNTOLD where nobody says what one of the two is worth (a judge is not
    asked of every rotation); SAME for the same text.
    """
    if before.hit is not None and after.hit is not None:
        if after.hit > before.hit + _EPSILON:
            return GAINED
        if after.hit < before.hit - _EPSILON:
            return LOST
    if before.prediction.strip() == after.prediction.strip():
        return SAME
    return UNTOLD if before.hit is None or after.hit is None else CHANGED


def pair(model: str, dataset: str, before: Mapping[str, Answered], after: Mapping[str, Answered]) -> Paired:
    """Pair the answers of the baseline (`before`) and of a run by question index, in the baseline's order.

    Raises DataError when one index stands for two questions: the runs saw other versions of the data.
    """
    changes = []
    for index, one in before.items():
        other = after.get(index)
        if other is None:
            continue
        if (one.question, one.options, one.answer) != (other.question, other.options, other.answer):
            raise DataError(f"{dataset}: the index {index} is another question in the answers of {model}.")
        changes.append(Change(classify(one, other), one, other))
    return Paired(model, dataset, tuple(changes), len(before.keys() ^ after.keys()))


def chosen(paired: Sequence[Paired], most: int) -> tuple[list[str], int]:
    """The indices to look at, and how many with a change are left off.

    Those gained and lost by any run come first, in turn, so that neither crowds out the other; then other texts, and
    last those of which nobody says what they are worth.
    """
    kinds: dict[str, set[str]] = {}
    for part in paired:
        for change in part.changes:
            if change.kind != SAME:
                kinds.setdefault(change.before.index, set()).add(change.kind)
    gained = [index for index, found in kinds.items() if GAINED in found]
    lost = [index for index, found in kinds.items() if LOST in found and GAINED not in found]
    turns = max(len(gained), len(lost))
    first = [queue[turn] for turn in range(turns) for queue in (gained, lost) if turn < len(queue)]
    others = [index for index, found in kinds.items() if not found & {GAINED, LOST}]
    listed = [*first, *sorted(others, key=lambda index: CHANGED not in kinds[index])]
    return listed[:most], max(0, len(listed) - most)


def as_csv(parts: Iterable[Paired]) -> str:
    """Every change of all runs and benchmarks, one row each; questions answered the same are left out."""
    rows: list[list[str]] = [CSV_HEADER]
    for part in parts:
        for change in part.changes:
            if change.kind != SAME:
                one, other = change.before, change.after
                row = [part.model, part.dataset, one.index, other.ability, change.kind, one.answer]
                rows.append([*row, one.prediction, other.prediction])
    return write_csv(rows)
