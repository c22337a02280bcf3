"""The report: one HTML page that holds everything; beside it the radars, the table and the changed answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner import output
from moslora_xtuner.atomic import atomic_write, explain
from moslora_xtuner.errors import OutputError, UsageError

from ..images import data_uri
from ..results import bootstrap, changed_answers, scores
from ..results.scores import Run
from . import (
    ability_tables,
    changed,
    formats,
    glance,
    harness_table,
    headline,
    loss_curves,
    methods,
    paired_differences,
    radar,
    radar_scale,
    samples,
    score_table,
    sections,
)
from .group_table import Table
from .nobreak import whole_words
from .score_table import groups, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["groups", "table", "write_report"]

TEMPLATES = Path(__file__).with_name("templates")
PAGE = "report.html"
KIND = "report"
EARLIER = "content=\"default-src 'none'; img-src data:"
"""By which the page of a report is known that was written before there were marks in folders."""
NOT_ALWAYS = (changed.CSV, *(f"{name}.{kind}" for name in radar.FILES for kind in radar.KINDS))
"""Files that a report writes only where the runs hold what they show."""


def write_report(
    runs: list[Path],
    out: Path,
    *,
    baseline: str | None = None,
    training: dict[str, Path] | None = None,
    command: str | None = None,
    times: Mapping[str, float] | None = None,
    title: str | None = None,
) -> Path:
    """Write OUT/report.html, the radars (PNG, SVG), scores.csv, scores.md, differences.csv; returns the page's path.

    `runs`: folders with a scores.json (all else in them is optional); `baseline`: the model that the others
    are compared with (default: none); `training`: model name to its JSON-lines log; `command`: what made all
    this, and `times`: step to its seconds, both printed on the page. Raises UsageError for an unknown
    baseline, DataError for a broken file, OutputError when OUT cannot be written.
    """
    loaded = [scores.read(Path(folder)) for folder in runs]
    names = [run.model for run in loaded]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"Two runs are named {twice!r}: the report could not tell them apart. Rename one.")
    base = None if baseline is None else paired_differences.find(loaded, baseline)
    logs = loss_curves.read_all(training or {})
    _claim(out)
    built = [score_table.build(loaded, group) for group in score_table.groups_of(loaded)] or [score_table.build(loaded)]
    outcomes = {run.model: bootstrap.load_all(run.folder, run.benchmarks, list(run.benchmarks)) for run in loaded}
    gaps = [paired_differences.gaps(loaded, base, item.datasets, outcomes) for item in built] if base else []
    paired, faults = changed.pair_all(loaded, base) if base else ([], [])
    changes = changed.page(paired, faults, loaded, base) if base else None
    results = [(item.title, headline.build(item, loaded, base, outcomes)) for item in built]
    page = _render(
        title=title or "Ability report",
        results=results,
        sure=any(item.verdict == headline.MORE for _, item in results),
        glance=glance.grid(loaded),
        tables=[
            sections.score_table(item, loaded, baseline, outcomes) | {"methods": methods.grid(item, loaded)}
            for item in built
        ],
        comparisons=[] if base is None else _comparisons(built, loaded, base, gaps, outcomes),
        baseline=baseline,
        radars=_radars(built, loaded),
        abilities=_filled(ability_tables.six, loaded),
        fine=_filled(ability_tables.fine, loaded),
        others=_filled(ability_tables.others, loaded),
        subtasks=_filled(ability_tables.subtasks, loaded),
        changes=changes,
        losses=_losses(logs, names),
        samples=samples.collect(loaded),
        times=[(step, f"{seconds:.1f}") for step, seconds in (times or {}).items()],
        provenance=sections.provenance(loaded),
        paper=[score_table.paper_grid("", item.group) for item in built if item.group in score_table.PRINTED],
        harness=harness_table.grid(loaded),
        command=command,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        names=names,
    )
    try:
        changes_csv = changed_answers.as_csv(paired) if paired else None
        _write_files(out, built, loaded, gaps, base, outcomes, changes_csv)
        atomic_write(out / PAGE, page)
    except OSError as error:
        raise OutputError(f"The report cannot be written into {out}: {error}.") from error
    return out / PAGE


def _claim(out: Path) -> None:
    """Take the report's folder: a new or an empty one, or that of an earlier report. Raises OutputError."""
    page = out / PAGE
    try:
        if (
            output.marker(out) is None
            and page.is_file()
            and EARLIER in page.read_text(encoding="utf-8", errors="replace")
        ):
            output.mark(out, KIND)
    except OSError as fault:
        raise explain(out, fault) from fault
    output.claim(out, KIND)


def _write_files(
    out: Path,
    built: Sequence[Table],
    runs: Sequence[Run],
    gaps: Sequence[dict[str, list[paired_differences.Gap]]],
    base: Run | None,
    outcomes: headline.ByModel,
    changes: str | None,
) -> None:
    """All but the page. Files of an earlier report here that this one does not write are taken away."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / PAGE).is_file():
        for name in NOT_ALWAYS:
            (out / name).unlink(missing_ok=True)
    for item in built:
        if radar.write(runs, item.datasets, out):
            break
    grids = [item.grid(score_table.CSV_DIGITS, whole=True) for item in built]
    atomic_write(out / "scores.csv", "".join(formats.as_csv(grid) for grid in grids))
    grids = [item.grid(1) for item in built]
    for place, item in enumerate(built):
        found = gaps[place] if gaps else {}
        grids += [part for part, _ in score_table.beneath(item, runs, found, base, outcomes, paper=False)]
    if (beside := harness_table.grid(runs)) is not None:
        grids.append(beside)
    atomic_write(out / "scores.md", "\n".join(formats.as_markdown(grid) for grid in grids))
    if changes is not None:
        atomic_write(out / changed.CSV, changes)


def _render(**values: Any) -> str:
    """Fill in the page; everything is escaped unless the template says otherwise (it never does)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["words"] = whole_words
    return environment.get_template(PAGE).render(**values)


def _comparisons(
    built: Sequence[Table],
    runs: Sequence[Run],
    base: Run,
    gaps: Sequence[Mapping[str, Sequence[paired_differences.Gap]]],
    outcomes: headline.ByModel,
) -> list[dict[str, Any]]:
    """Of each group: methods over seeds, and single runs unless the baseline is one of several seeds."""
    found = []
    ground = methods.of(runs, base)
    for item, single in zip(built, gaps, strict=True):
        if over_seeds := methods.gaps(item, runs, base, outcomes):
            found.append(sections.comparison(item, over_seeds, f"{ground.name} over seeds", methods.METHOD))
        if not ground.several:
            found.append(sections.comparison(item, single, base.model))
    return found


def _filled(make: Any, runs: Sequence[Run]) -> list[formats.Grid]:
    """The grids of one kind of every benchmark that has one."""
    found = (make(runs, dataset) for dataset in ability_tables.datasets_of(runs))
    return [grid for grid in found if grid is not None]


def _radars(built: Sequence[Table], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each group with radars its title and, normalised and absolute, a title, a caption and its pictures."""
    found = []
    for item in built:
        if not (shown := radar_scale.panels(runs, item.datasets)):
            continue
        parts = []
        several = len({model for panel in shown for model in panel.values}) > 1
        for absolute in (False, True) if several else (True,):  # one model is the best on every axis
            pictures = [
                {"image": _figure(radar.draw_for_page(panel, shown, absolute=absolute)), "title": panel.title}
                for panel in shown
            ]
            name = "Absolute, per cent" if absolute else "Relative to the best model, as in the paper's Figure 5"
            parts.append(
                {"title": name, "caption": radar_scale.caption(shown, absolute=absolute), "pictures": pictures}
            )
        found.append({"title": item.title, "parts": parts})
    return found


def _figure(figure: Figure) -> str:
    """A figure as a PNG inside a data URI; closes the figure."""
    import matplotlib.pyplot as plt

    target = BytesIO()
    figure.savefig(target, format="png", dpi=180, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return data_uri(target.getvalue())


def _losses(logs: Sequence[loss_curves.Curve], names: Sequence[str]) -> dict[str, Any] | None:
    """The loss figure and, for each training, its steps, the loss at both ends and their ratio."""
    if not logs:
        return None
    places = {name: place for place, name in enumerate(names)}
    rows = []
    for curve in logs:
        first, end = curve.ends()
        rows.append([curve.name, str(curve.steps[-1]), f"{first:.3f}", f"{end:.3f}", f"{end / first:.2f}"])
    return {"picture": _figure(loss_curves.draw(logs, places)), "rows": rows}
