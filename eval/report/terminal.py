"""The scores as a terminal shows them: a row a benchmark, so that intervals and question counts fit in 100 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..results import bootstrap, scores
from ..results.bootstrap import Outcomes
from ..results.scores import Run
from .formats import Grid
from .group_table import Table

INTERVAL = "In brackets: 95 % bootstrap interval over the units that are counted."


def grid(table: Table, runs: Sequence[Run], outcomes: Mapping[str, Mapping[str, Outcomes]]) -> Grid:
    """Benchmark, how much was asked, each model's score with its interval, and chance where it is known."""
    chance = [table.chance] if table.chance else []
    rows: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for place, name in enumerate(table.datasets):
        if name not in table.asked:
            continue
        cells = [scores.label(name), counted(runs, name), *(f"{c[name]:.1f}" if name in c else "" for c in chance)]
        for row, run in enumerate(runs):
            value = table.values[row][place]
            if (row, place) in table.best:
                bold.add((len(rows), len(cells)))
            cells.append(
                table.missing(row, name) if value is None else _scored(value, outcomes[run.model].get(name), name)
            )
        rows.append(cells)
    guessed = table.chance_mean()
    last = [table.mean_title, "", *("" if guessed is None else f"{guessed:.1f}" for _ in chance)]
    for row, (run, mean) in enumerate(zip(runs, table.means, strict=True)):
        if (row, len(table.datasets)) in table.best:
            bold.add((len(rows), len(last)))
        have = {name: outcomes[run.model][name] for name in table.datasets if name in outcomes[run.model]}
        if mean.value is None:
            last.append("withheld")
        elif len(have) == len(table.datasets):
            found = bootstrap.mean_interval(have)
            last.append(f"{mean.value:.1f} ({found.low:.1f} to {found.high:.1f})")
        else:
            last.append(f"{mean.value:.1f}")
    rows.append(last)
    header = ["benchmark", "questions", *("chance" for _ in chance), *table.models]
    notes = [*table.notes, *table.not_asked(), *table.withheld()]
    if any(outcomes.values()):
        notes.insert(0, INTERVAL)
    return Grid(header, rows, "", notes, frozenset(bold))


def counted(runs: Sequence[Run], dataset: str) -> str:
    """How many units a benchmark's score counts: "160 groups" of rotations, "84 pairs" of pictures, "160"."""
    found = dict.fromkeys(
        f"{entry['units']}" + ("" if entry["unit"] == "question" else f" {entry['unit'].split()[-1]}s")
        for run in runs
        if "units" in (entry := run.benchmarks.get(dataset, {}))
    )
    return " or ".join(found)


def _scored(value: float, outcomes: Outcomes | None, dataset: str) -> str:
    if outcomes is None:
        return f"{value:.1f}"
    found = bootstrap.interval(outcomes, dataset)
    return f"{value:.1f} ({found.low:.1f} to {found.high:.1f})"
