"""The page's part on changed answers: counts, and the questions themselves with their pictures, bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moslora_xtuner.errors import DataError

from ..results import changed_answers, comparability, scores
from ..results.changed_answers import CHANGED, GAINED, KINDS, LOST, SAME, Answered, Paired
from ..results.scores import Run
from . import question_pictures

CSV = "differences.csv"
SHOWN = 200
"""Questions of one benchmark that the page shows; differences.csv has them all."""
PICTURE_CHARACTERS = 16_000_000
"""Characters of pictures in the whole page: with more, a telephone no longer opens it."""
SIGNS = {GAINED: "▲", LOST: "▼", CHANGED: "≠", SAME: "="}


def pair_all(runs: Sequence[Run], base: Run) -> tuple[list[Paired], list[str]]:
    """Every other run paired with the baseline, benchmark by benchmark; and why some cannot be paired."""
    found: list[Paired] = []
    faults: list[str] = []
    for dataset in base.benchmarks:
        before = changed_answers.read(base.folder, dataset)
        others = [run for run in runs if run is not base and dataset in run.benchmarks]
        for run in others if before else ():
            title = f"{scores.label(dataset)}, {run.model}"
            if against := comparability.reasons((run, base), dataset):
                faults.append(f"{title}: the answers cannot be compared: {'; '.join(against)}.")
                continue
            after = changed_answers.read(run.folder, dataset)
            if not after:
                faults.append(f"{title}: the run keeps no answers.")
                continue
            try:
                found.append(changed_answers.pair(run.model, dataset, before, after))
            except DataError as error:
                faults.append(str(error))
    return found, faults


def page(paired: Sequence[Paired], faults: Sequence[str], runs: Sequence[Run], base: Run) -> dict[str, Any] | None:
    """What the template shows: {kinds, models, datasets: [...], faults}; None where no answers are kept at all."""
    if not paired and not faults:
        return None
    datasets = list(dict.fromkeys(part.dataset for part in paired))
    budget = PICTURE_CHARACTERS // max(1, len(datasets))
    models = [run.model for run in runs if run is not base]
    shown = []
    for dataset in datasets:
        parts = [part for part in paired if part.dataset == dataset]
        shown.append(_dataset(dataset, parts, runs, base, budget, models))
    return {"kinds": KINDS[:3], "signs": SIGNS, "models": models, "datasets": shown, "faults": list(faults)}


def _dataset(
    dataset: str, parts: Sequence[Paired], runs: Sequence[Run], base: Run, budget: int, models: Sequence[str]
) -> dict[str, Any]:
    wanted, left_off = changed_answers.chosen(parts, SHOWN)
    pictures = question_pictures.load([base, *(run for run in runs if run is not base)], dataset, wanted, budget)
    by_index = [{change.before.index: change for change in part.changes} for part in parts]
    cards = []
    for index in wanted:
        pairs = [(part.model, found[index]) for part, found in zip(parts, by_index, strict=True) if index in found]
        before = pairs[0][1].before
        answers = [
            _given(change.after) | {"model": model, "kind": change.kind, "tag": f"{models.index(model)}:{change.kind}"}
            for model, change in pairs
        ]
        cards.append(
            {
                "index": index,
                "ability": before.ability,
                "question": before.question,
                "options": before.options,
                "answer": before.answer,
                "before": _given(before) | {"model": base.model},
                "answers": answers,
                "image": pictures.by_index.get(index, ""),
            }
        )
    notes = [pictures.reason] if pictures.reason else []
    if left_off:
        notes.append(f"Questions with another answer that are left off here: {left_off}. {CSV} has them all.")
    notes += [
        f"Questions asked of only one of {base.model} and {part.model}: {part.unpaired}."
        for part in parts
        if part.unpaired
    ]
    return {
        "title": scores.label(dataset),
        "cards": cards,
        "notes": notes,
        "counts": [[part.model, *_four(part.counts())] for part in parts],
        "abilities": _by_ability(parts),
    }


def _by_ability(parts: Sequence[Paired]) -> list[list[Any]]:
    """Rows of ability, model and the four counts, the models of one ability together."""
    rows = [[name, part.model, *_four(counts)] for part in parts for name, counts in part.by_ability().items() if name]
    return sorted(rows, key=lambda row: row[0])


def _four(counts: Any) -> list[int]:
    return [counts[kind] for kind in KINDS]


def _given(answered: Answered) -> dict[str, Any]:
    """An answer as shown: its text, right or not, and the part of the credit where it is neither 0 nor 1."""
    hit = answered.hit
    credit = "" if hit is None or hit in (0.0, 1.0) else f"{hit:.2f}"
    return {"text": answered.prediction, "hit": hit, "credit": credit}
