"""The score table, models by benchmarks with the mean last, and the tables that stand beneath it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import UsageError

from ..results import bootstrap, comparability, scores
from ..results.scores import Mean, Run
from ..tasks.registry import GROUPS
from . import ability_tables, formats, paired_differences
from .formats import Grid
from .paper_table4 import NOTE as TABLE4_NOTE
from .paper_table4 import TABLE4, CommonsenseRow
from .paper_table5 import TABLE5, PaperRow

CSV_DIGITS = 2
"""Decimals for programs; people see one, as in the paper. So nobody rounds what was rounded before."""
FORMATS = (*formats.RENDERERS, "json")
TITLES = {
    "paper": "The nine benchmarks of the paper",
    "digits": "DigitsVQA (real handwriting)",
    "commonsense": "Commonsense reasoning, the authors' protocol",
    "commonsense-greedy": "Commonsense reasoning, greedy answers",
    "small-worlds": "Small worlds (made up), greedy answers",
    "other": "Other benchmarks",
}
PAPER = "paper (printed)"
PAPER_NOTE = (
    "Scores of the paper are Table 5 as arXiv 2406.11909 prints it. The third row's printed mean is 57.1; the mean of "
    "its printed cells is 57.16."
)
PRINTED: dict[str, tuple[str, tuple[PaperRow | CommonsenseRow, ...], str]] = {
    "paper": ("Table 5", TABLE5, PAPER_NOTE),
    "commonsense": ("Table 4", TABLE4, TABLE4_NOTE),
}
"""Of a group of benchmarks: what the paper calls its table, the rows, what is to be known of them."""


@dataclass(frozen=True)
class Table:
    """Normalised scores (0 to 100): one row a model; `values[i][j]` is None where a run has no such score."""

    group: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    means: tuple[Mean, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The heading of the group."""
        return TITLES.get(self.group, self.group)

    @property
    def header(self) -> list[str]:
        """Column titles, the model first and the mean last."""
        return ["model", *(scores.label(name) for name in self.datasets), "mean"]

    def best(self) -> list[float | None]:
        """The highest score of each column, None for an empty one."""
        columns = zip(*self.values, strict=True)
        return [max((value for value in column if value is not None), default=None) for column in columns]

    def rows(self, digits: int) -> list[list[str]]:
        """The cells as text: a dash for what is missing, the reason in place of a mean withheld."""
        rows = []
        for model, values, mean in zip(self.models, self.values, self.means, strict=True):
            cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
            last = f"withheld: {mean.reason}" if mean.value is None else f"{mean.value:.{digits}f}"
            rows.append([model, *cells, last])
        return rows

    def grid(self, digits: int, *, titled: bool = False) -> Grid:
        """The table as text, the best of each column bold where there is more than one model."""
        best = self.best()
        bold = {
            (row, column + 1)
            for row, values in enumerate(self.values)
            for column, value in enumerate(values)
            if value is not None and value == best[column] and len(self.models) > 1
        }
        title = self.title if titled else ""
        return Grid(self.header, self.rows(digits), title, self.notes, frozenset(bold))


def _asked(run: Run) -> list[str]:
    """Every benchmark that a run was asked, scored or not."""
    return [*run.benchmarks, *run.manifest.unscored]


def groups_of(runs: Sequence[Run]) -> list[str]:
    """The named sets of benchmarks of which the runs hold something; "other" for datasets of no set."""
    present = {name for run in runs for name in _asked(run)}
    known = [group for group, names in GROUPS.items() if present & set(names)]
    return known + (["other"] if present - {name for names in GROUPS.values() for name in names} else [])


def groups(runs: Sequence[Path]) -> list[str]:
    """The same of run folders. Raises DataError for one without valid scores."""
    return groups_of([scores.read(Path(folder)) for folder in runs])


def datasets_of(runs: Sequence[Run], group: str) -> tuple[str, ...]:
    """The columns of a group: all of a named set, or whatever else the runs hold."""
    if group in GROUPS:
        return GROUPS[group]
    named = {name for names in GROUPS.values() for name in names}
    return tuple(dict.fromkeys(name for run in runs for name in _asked(run) if name not in named))


def build(runs: Sequence[Run], group: str | None = None) -> Table:
    """The table of one group of benchmarks (default: the first that the runs hold anything of).

    Raises UsageError when there is no run or no score.
    """
    if not runs:
        raise UsageError("No run was given: name run folders that hold a scores.json.")
    groups = groups_of(runs)
    if not groups:
        raise UsageError("The runs hold no benchmark at all: evaluate the models first.")
    group = group or groups[0]
    datasets = datasets_of(runs, group)
    values = tuple(tuple(run.normalised(name) for name in datasets) for run in runs)
    means = tuple(comparability.mean(run, datasets) for run in runs)
    return Table(group, datasets, tuple(run.model for run in runs), values, means, comparability.notes(runs, datasets))


def paper_grid(mark: str = f"{PAPER}: ", group: str = "paper") -> Grid:
    """What the paper prints of a group's benchmarks, for reading beside measured scores of the same.

    `mark` stands before each name, so that a row taken out of the table still says whose it is.
    """
    name, printed, note = PRINTED[group]
    header = ["model (paper)", *(scores.label(dataset) for dataset in GROUPS[group]), "mean"]
    rows = [[f"{mark}{row.name}", *(f"{value:.1f}" for value in row.values), f"{row.mean:.1f}"] for row in printed]
    return Grid(header, rows, f"For comparison: {name} as the paper prints it (not measured here)", [note])


def _json(
    built: Table, runs: Sequence[Run], found: dict[str, list[paired_differences.Gap]], base: Run | None
) -> dict[str, Any]:
    """A group's scores in whole precision: rows of model, scores, mean (or why it is withheld); notes, differences."""
    rows = []
    for model, values, mean in zip(built.models, built.values, built.means, strict=True):
        row: dict[str, Any] = {"model": model, "scores": dict(zip(built.datasets, values, strict=True))}
        row["mean"] = mean.value
        if mean.value is None:
            row["mean_withheld"] = mean.reason
        rows.append(row)
    content: dict[str, Any] = {"group": built.group, "scale": 100, "rows": rows, "notes": list(built.notes)}
    if base is not None:
        content["differences"] = paired_differences.as_json(found, base)
    return content


def table(
    runs: Sequence[Path],
    format: str = "terminal",
    *,
    group: str | None = None,
    baseline: str | None = None,
    paper: bool = False,
    abilities: bool = False,
) -> str:
    """The score tables of run folders, one row a model: name, scores 0 to 100, the mean last.

    `format`: terminal, csv (two decimals), markdown, latex, json (whole precision), html. `group`: one of TITLES
    (default: every one that the runs hold anything of; csv, which is one table, and json's top have the first,
    json the rest under `further`). The mean stands only where every benchmark of the group does; otherwise the gap is
    named in its place.
    Beneath it: with `baseline` the differences from that model with interval and p (not in csv, which stays one table
    of models), with `paper` Table 5 or 4 as printed (in csv as further rows), with `abilities` what the scores are made
    of (in csv after an empty line, a row a number).
    Raises UsageError for an unknown format, group or baseline, or where the paper printed nothing of the group,
    DataError for a run without valid scores.
    """
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}. Formats: {', '.join(FORMATS)}.")
    if group is not None and group not in TITLES:
        raise UsageError(f"There is no group of benchmarks {group!r}. Groups: {', '.join(TITLES)}.")
    loaded = [scores.read(Path(folder)) for folder in runs]
    wanted: list[str | None] = [group] if group else [*groups_of(loaded)] or [None]
    built = [build(loaded, name) for name in wanted]
    if paper and built[0].group not in PRINTED:
        raise UsageError(
            "The paper printed scores of its nine benchmarks alone, and of commonsense reasoning: the runs hold none."
        )
    base = None if baseline is None else paired_differences.find(loaded, baseline)
    if format == "csv":
        return _csv(built[0], loaded, paper=paper, abilities=abilities)
    gaps = [_gaps(item, loaded, base) for item in built]
    if format == "json":
        first, *further = (_json(item, loaded, found, base) for item, found in zip(built, gaps, strict=True))
        if further:
            first["further"] = further
        if paper:
            _, printed, note = PRINTED[built[0].group]
            rows = [{"model": row.name, "scores": row.scores, "mean": row.mean} for row in printed]
            first["paper"] = {"rows": rows, "note": note}
        if abilities:
            first["abilities"] = ability_tables.as_json(loaded)
        return json.dumps(first, indent=1, ensure_ascii=False) + "\n"
    parts = []
    for item, found in zip(built, gaps, strict=True):
        parts.append(item.grid(1, titled=len(built) > 1))
        if paper and item.group in PRINTED:
            parts.append(paper_grid(group=item.group))
        if base is not None and found:
            parts.append(paired_differences.grid(found, base))
    if abilities:
        parts += ability_tables.grids(loaded)
    return "\n".join(formats.RENDERERS[format](part) for part in parts)


def _gaps(built: Table, runs: Sequence[Run], base: Run | None) -> dict[str, list[paired_differences.Gap]]:
    """The differences of a group's benchmarks from the baseline; none without one."""
    if base is None:
        return {}
    outcomes = {run.model: bootstrap.load_all(run.folder, run.benchmarks, built.datasets) for run in runs}
    return paired_differences.gaps(runs, base, built.datasets, outcomes)


def _csv(built: Table, runs: Sequence[Run], *, paper: bool, abilities: bool) -> str:
    main = built.grid(CSV_DIGITS)
    rows = [*main.rows, *(paper_grid(group=built.group).rows if paper else ())]
    parts = [Grid(main.header, rows), *([ability_tables.long_grid(runs)] if abilities else [])]
    return "\n".join(formats.as_csv(part) for part in parts)
