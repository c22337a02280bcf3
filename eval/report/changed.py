"""The page's part on changed answers: counts, and the questions themselves with their pictures, bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moslora_xtuner.errors import DataError

from ..results import bootstrap, changed_answers, comparability, scores
from ..results.changed_answers import CHANGED, GAINED, KINDS, LOST, SAME, UNTOLD, Answered, Paired
from ..results.scores import Run
from . import question_pictures
from .formats import Grid

CSV = "differences.csv"
SHOWN = 200
"""Questions of one benchmark that the page shows; differences.csv has them all."""
PICTURE_CHARACTERS = 16_000_000
"""Characters of pictures in the whole page: with more, a telephone no longer opens it."""
SIGNS = {GAINED: "▲", LOST: "▼", CHANGED: "≠", UNTOLD: "?", SAME: "="}


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
    """What the template shows (signs, models, overview, datasets, faults); None where no answers are kept."""
    if not paired and not faults:
        return None
    datasets = list(dict.fromkeys(part.dataset for part in paired))
    budget = PICTURE_CHARACTERS // max(1, len(datasets))
    models = [run.model for run in runs if run is not base]
    shown = []
    for dataset in datasets:
        parts = [part for part in paired if part.dataset == dataset]
        shown.append(_dataset(dataset, parts, runs, base, budget, models))
    untold = any(UNTOLD in item["kinds"] for item in shown)
    return {
        "signs": SIGNS,
        "untold": untold,
        "models": models,
        "overview": _overview(paired, models, untold),
        "datasets": shown,
        "faults": list(faults),
    }


def _overview(paired: Sequence[Paired], models: Sequence[str], untold: bool) -> Grid:
    """A row a benchmark, a column a run: how many answers were gained, lost, changed."""
    kinds = [kind for kind in KINDS if kind not in (SAME, *([] if untold else [UNTOLD]))]
    found = {(part.dataset, part.model): part.counts() for part in paired}
    rows = [
        [
            scores.label(dataset),
            *(
                "\u2003".join(f"{SIGNS[kind]}\u00a0{counts[kind]}" for kind in kinds) if counts else "–"
                for counts in (found.get((dataset, model)) for model in models)
            ),
        ]
        for dataset in dict.fromkeys(part.dataset for part in paired)
    ]
    return Grid(["benchmark", *models], rows, "Changed answers by benchmark")


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
    notes += _units(dataset, parts, runs, base)
    kinds = [kind for kind in KINDS if kind != UNTOLD or any(part.counts()[UNTOLD] for part in parts)]
    by_ability = [
        [name, part.model, *(counts[kind] for kind in kinds)]
        for part in parts
        for name, counts in part.by_ability().items()
        if name
    ]
    return {
        "title": scores.label(dataset),
        "cards": cards,
        "notes": notes,
        "kinds": kinds,
        "counts": [[part.model, *(part.counts()[kind] for kind in kinds)] for part in parts],
        "abilities": sorted(by_ability, key=lambda row: row[0]),
    }


def _units(dataset: str, parts: Sequence[Paired], runs: Sequence[Run], base: Run) -> list[str]:
    """What became of the units that are scored, where they are more than a question: groups of rotations, pairs."""
    entry = base.benchmarks[dataset]
    ground = bootstrap.load(base.folder, dataset, entry)
    if ground is None or entry.get("unit", "question") == "question":
        return []
    found = []
    for run in runs:
        mine = bootstrap.load(run.folder, dataset, entry) if any(part.model == run.model for part in parts) else None
        if mine is None:
            continue
        try:
            _, differences = bootstrap.paired(mine, ground)
        except DataError:
            continue
        better, worse = int((differences > 0).sum()), int((differences < 0).sum())
        found.append(f"{run.model} {better} better, {worse} worse")
    return [f"As they are scored, by {entry['unit']}: {'; '.join(found)}."] if found else []


def _given(answered: Answered) -> dict[str, Any]:
    """An answer as shown: its text, right or not, and the part of the credit where it is neither 0 nor 1."""
    hit = answered.hit
    credit = "" if hit is None or hit in (0.0, 1.0) else f"{hit:.2f}"
    return {"text": answered.prediction, "hit": hit, "credit": credit}
