"""Methods of which several seeds were trained: mean and spread of each score, and the differences over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moslora_xtuner.errors import DataError

from ..results import comparability, scores, seeds
from ..results.bootstrap import Difference, Outcomes
from ..results.scores import Run
from ..results.seeds import Method, Spread
from . import glance
from .best import best_of
from .formats import Grid
from .group_table import Table
from .paired_differences import MEAN, Gap

NOTE = "Mean and standard deviation over seeds; a name of one seed has no spread."
METHOD = (
    "Points of the 100-scale, difference of the seeds' means; 95 % interval and two-sided p over questions and seeds "
    "(variance of the paired bootstrap and of Welch's t-test), without correction for many comparisons."
)


def grid(table: Table, runs: Sequence[Run]) -> Grid | None:
    """A row a method: seeds, each benchmark, the mean; None where no method has several seeds."""
    found = seeds.methods(runs)
    if not any(item.several for item in found):
        return None
    columns: list[list[Spread | None]] = [[seeds.score(item, name) for item in found] for name in table.asked]
    columns.append([seeds.mean(item, table.datasets) for item in found])
    barred = [bool(comparability.reasons(runs, name)) for name in table.asked]
    bold = set()
    for place, (column, bar) in enumerate(zip(columns, [*barred, any(barred)], strict=True)):
        best = best_of([None if spread is None else spread.mean for spread in column])
        bold |= set() if bar else {(row, place + 2) for row in best}
    rows = [
        [item.name, str(len(item.runs)), *(_cell(column[row]) for column in columns)] for row, item in enumerate(found)
    ]
    header = ["method", "seeds", *(scores.label(name) for name in table.asked), table.mean_title]
    return Grid(header, rows, f"{table.title}: over seeds", [NOTE, *_doubled(found)], frozenset(bold))


def of(runs: Sequence[Run], run: Run) -> Method:
    """The method of one of the runs."""
    return next(item for item in seeds.methods(runs) if item.holds(run))


def gaps(
    table: Table, runs: Sequence[Run], base: Run, outcomes: Mapping[str, Mapping[str, Outcomes]]
) -> dict[str, list[Gap]]:
    """Each other method against the baseline's on every benchmark, the mean last; empty without several seeds."""
    ground = of(runs, base)
    others = [item for item in seeds.methods(runs) if not item.holds(base) and (item.several or ground.several)]
    return {
        item.name: [
            *(_gap(item, ground, name, (name,), outcomes) for name in table.datasets),
            _gap(item, ground, MEAN, table.datasets, outcomes),
        ]
        for item in others
    }


def _gap(
    method: Method,
    ground: Method,
    title: str,
    datasets: Sequence[str],
    outcomes: Mapping[str, Mapping[str, Outcomes]],
) -> Gap:
    one, other = (
        seeds.mean(item, datasets) if title == MEAN else seeds.score(item, title) for item in (method, ground)
    )
    if one is None or other is None:
        return Gap(method.name, title, None, None)
    both = (*method.runs, *ground.runs)
    if against := {why for name in datasets for why in comparability.reasons(both, name)}:
        return Gap(method.name, title, None, None, "; ".join(sorted(against)))
    ours, theirs = (
        [{name: outcomes[run.model][name] for name in datasets if name in outcomes[run.model]} for run in item.runs]
        for item in (method, ground)
    )
    estimate = one.mean - other.mean
    try:
        found = seeds.difference(one, other, ours, theirs)
    except DataError as error:
        return Gap(method.name, title, None, None, str(error))
    if found is None:
        return Gap(method.name, title, None, estimate, "nothing varies, so no interval")
    lacking = "" if found.questions else "no outcomes of single questions: the interval is over seeds alone"
    return Gap(method.name, title, Difference(estimate, found.low, found.high, found.p), estimate, lacking)


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "–"
    return f"{spread.mean:.1f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.1f}")


def _doubled(found: Sequence[Method]) -> list[str]:
    """A method whose runs say that they are of one seed: copies would look like a small spread."""
    notes = []
    for item in found:
        said = [str(seed) for run in item.runs if (seed := glance.seed_of(run)) is not None]
        twice = sorted({seed for seed in said if said.count(seed) > 1})
        if twice:
            notes.append(f"{item.name}: several runs say that they are of seed {', '.join(twice)}.")
    return notes
