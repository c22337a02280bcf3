"""The score table, models by benchmarks with the mean last, and the tables that stand beneath it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import UsageError

from ..results import bootstrap, scores
from ..results.scores import Run
from ..tasks.registry import GROUPS
from . import ability_tables, formats, harness_table, headline, methods, paired_differences, terminal
from .formats import Grid
from .group_table import TITLES, Table, build, groups, groups_of
from .headline import ByModel
from .paired_differences import Gap
from .paper_table4 import NOTE as TABLE4_NOTE
from .paper_table4 import TABLE4, CommonsenseRow
from .paper_table5 import TABLE5, PaperRow

__all__ = ["FORMATS", "build", "groups", "groups_of", "paper_grid", "table"]

CSV_DIGITS = 2
"""Decimals for programs; people see one, as in the paper. So nobody rounds what was rounded before."""
FORMATS = (*formats.RENDERERS, "json")
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


def paper_grid(mark: str = f"{PAPER}: ", group: str = "paper") -> Grid:
    """What the paper prints of a group's benchmarks, for reading beside measured scores of the same.

    `mark` stands before each name, so that a row taken out of the table still says whose it is.
    """
    name, printed, note = PRINTED[group]
    header = ["model (paper)", *(scores.label(dataset) for dataset in GROUPS[group]), "mean"]
    rows = [[f"{mark}{row.name}", *(f"{value:.1f}" for value in row.values), f"{row.mean:.1f}"] for row in printed]
    return Grid(header, rows, f"For comparison: {name} as the paper prints it (not measured here)", [note])


def _json(
    built: Table, runs: Sequence[Run], found: dict[str, list[Gap]], base: Run | None, outcomes: ByModel
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
    content["result"] = asdict(headline.build(built, runs, base, outcomes))
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
    of (in csv after an empty line, a row a number). Last, but not in csv, what lm-evaluation-harness said of the runs.
    Raises UsageError for an unknown format, group or baseline, or where the paper printed nothing of the group,
    DataError for a run without valid scores.
    """
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}. Formats: {', '.join(FORMATS)}.")
    if group is not None and group not in TITLES:
        raise UsageError(f"There is no group of benchmarks {group!r}. Groups: {', '.join(TITLES)}.")
    loaded = [scores.read(Path(folder)) for folder in runs]
    if format != "csv":
        loaded = _told_apart(loaded)
    wanted: list[str | None] = [group] if group else [*groups_of(loaded)] or [None]
    built = [build(loaded, name) for name in wanted]
    if paper and built[0].group not in PRINTED:
        raise UsageError(
            "The paper printed scores of its nine benchmarks alone, and of commonsense reasoning: the runs hold none."
        )
    base = None if baseline is None else paired_differences.find(loaded, baseline)
    if format == "csv":
        return _csv(built[0], loaded, paper=paper, abilities=abilities)
    outcomes = {run.model: bootstrap.load_all(run.folder, run.benchmarks, list(run.benchmarks)) for run in loaded}
    gaps = [paired_differences.gaps(loaded, base, item.datasets, outcomes) if base else {} for item in built]
    if format == "json":
        first, *further = (_json(item, loaded, found, base, outcomes) for item, found in zip(built, gaps, strict=True))
        if further:
            first["further"] = further
        if paper:
            _, printed, note = PRINTED[built[0].group]
            rows = [{"model": row.name, "scores": row.scores, "mean": row.mean} for row in printed]
            first["paper"] = {"rows": rows, "note": note}
        if abilities:
            first["abilities"] = ability_tables.as_json(loaded)
        if (harness := harness_table.as_json(loaded)) is not None:
            first["lm_evaluation_harness"] = harness
        return json.dumps(first, indent=1, ensure_ascii=False) + "\n"
    parts: list[str] = []
    render = formats.RENDERERS[format]
    for item, found in zip(built, gaps, strict=True):
        titled = len(built) > 1
        if format == "terminal":
            said = headline.build(item, loaded, base, outcomes).lines()
            parts.append(formats.paragraphs([item.title, *said] if titled else said))
            parts.append(render(terminal.grid(item, loaded, outcomes)))
        else:
            parts.append(render(item.grid(1, titled=titled)))
        for part, tall in beneath(item, loaded, found, base, outcomes, paper=paper):
            parts.append(render(part.transposed("benchmark") if tall and format == "terminal" else part))
    if abilities:
        parts += [render(part) for part in ability_tables.grids(loaded)]
    if (beside := harness_table.grid(loaded)) is not None:
        parts.append(render(beside))
    return "\n".join(parts)


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, those of one name with their folder behind it: what belongs to a run is found by its name."""
    names = [run.model for run in runs]
    return [replace(run, model=f"{run.model} ({run.folder})") if names.count(run.model) > 1 else run for run in runs]


def beneath(
    built: Table, runs: Sequence[Run], found: dict[str, list[Gap]], base: Run | None, outcomes: ByModel, *, paper: bool
) -> list[tuple[Grid, bool]]:
    """What stands beneath a group's scores, and whether its benchmarks are columns, too many for a terminal.

    Methods over seeds, the paper's rows, differences from the baseline: of methods where that one has several seeds,
    since a single seed of it is nothing to compare with.
    """
    printed = paper_grid(group=built.group) if paper and built.group in PRINTED else None
    parts = [(methods.grid(built, runs), True), (printed, True)]
    if base is not None:
        ground = methods.of(runs, base)
        if over_seeds := methods.gaps(built, runs, base, outcomes):
            parts.append((paired_differences.grid(over_seeds, ground.name, methods.METHOD), False))
        if found and not ground.several:
            parts.append((paired_differences.grid(found, base.model), False))
    return [(part, tall) for part, tall in parts if part is not None]


def _csv(built: Table, runs: Sequence[Run], *, paper: bool, abilities: bool) -> str:
    main = built.grid(CSV_DIGITS, whole=True)
    rows = [*main.rows, *(paper_grid(group=built.group).rows if paper else ())]
    parts = [Grid(main.header, rows), *([ability_tables.long_grid(runs)] if abilities else [])]
    return "\n".join(formats.as_csv(part) for part in parts)
