"""The report: one HTML page that holds everything; beside it the radar (PNG, SVG) and the table (CSV, MD)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner.errors import DataError, OutputError, UsageError

from . import curves, radar, scores, sections, tables
from .scores import Run
from .tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["table", "write_report"]

TEMPLATES = Path(__file__).with_name("templates")


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
    """Write OUT/report.html, radar.png, radar.svg, scores.csv and scores.md; returns the page's path.

    `runs`: folders with a scores.json (all else in them is optional); `baseline`: the model that the others
    are compared with (default: none); `training`: model name to its JSON-lines log; `command`: what made all
    this, and `times`: step to its seconds, both printed on the page. Raises UsageError for an unknown
    baseline, DataError for a broken file.
    """
    loaded = [scores.read(Path(folder)) for folder in runs]
    names = [run.model for run in loaded]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"Two runs are named {twice!r}: the report could not tell them apart. Rename one.")
    if baseline is not None and baseline not in names:
        raise UsageError(f"There is no run named {baseline!r} to compare with. Runs: {', '.join(names)}.")
    logs = curves.read_all(training or {})
    built = [tables.build(loaded, group) for group in tables.groups_of(loaded)] or [tables.build(loaded)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be made: {error}.") from error
    pictures: list[str] = []
    for place, item in enumerate(built):
        if place == 0:
            radar.write(loaded, item.group, out)
        shown = radar.panels(loaded, item.group)
        pictures += [_data_uri(radar.draw([panel], with_table=False)) for panel in shown]
    (out / "scores.csv").write_text("".join(tables.FORMATS["csv"](item) for item in built), encoding="utf-8")
    markdown = "\n".join(tables.FORMATS["markdown"](item) for item in built)
    (out / "scores.md").write_text(markdown, encoding="utf-8")
    page = _render(
        title=title or "Ability report",
        tables=[sections.score_table(item, loaded, baseline) for item in built],
        comparisons=[sections.comparison(item, loaded, baseline) for item in built] if baseline else [],
        baseline=baseline,
        radars=pictures,
        abilities=sections.ability_tables(loaded),
        subtasks=sections.subtask_tables(loaded),
        losses=_losses(logs, names),
        samples=_samples(loaded),
        times=[(step, f"{seconds:.1f}") for step, seconds in (times or {}).items()],
        provenance=sections.provenance(loaded),
        paper=sections.paper_rows(built),
        command=command,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        colours=radar.COLOURS,
        names=names,
    )
    target = out / "report.html"
    beside = target.with_name("report.html.part")
    beside.write_text(page, encoding="utf-8")
    beside.replace(target)
    return target


def _render(**values: Any) -> str:
    """Fill in the page; everything is escaped unless the template says otherwise (it never does)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(**values)


def _data_uri(figure: Figure) -> str:
    """A figure as a PNG inside a data URI; closes the figure."""
    import matplotlib.pyplot as plt

    target = BytesIO()
    figure.savefig(target, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def _losses(logs: Sequence[curves.Curve], names: Sequence[str]) -> dict[str, Any] | None:
    """The loss figure and, for each training, its steps, the loss at both ends and their ratio."""
    if not logs:
        return None
    places = {name: place for place, name in enumerate(names)}
    rows = []
    for curve in logs:
        first, end = curve.ends()
        rows.append([curve.name, str(curve.steps[-1]), f"{first:.3f}", f"{end:.3f}", f"{end / first:.2f}"])
    return {"picture": _data_uri(curves.draw(logs, places)), "rows": rows}


def _samples(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each benchmark the questions that every run kept, with the answers of all runs side by side."""
    found: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(name for run in runs for name in run.benchmarks):
        by_run = {run.model: lines for run in runs if (lines := _read_samples(run.folder, dataset))}
        if not by_run:
            continue
        first = next(iter(by_run.values()))
        cards = []
        for index, record in first.items():
            answers = [
                {"model": model, "text": lines[index]["prediction"], "hit": lines[index]["hit"]}
                for model, lines in by_run.items()
                if index in lines
            ]
            cards.append({**record, "answers": answers})
        found.append({"title": scores.label(dataset), "cards": cards})
    return found


def _read_samples(folder: Path, dataset: str) -> Mapping[str, dict[str, Any]]:
    """A run's kept samples of one benchmark by question index; empty where it has none."""
    path = folder / "samples" / f"{dataset}.jsonl"
    if not path.is_file():
        return {}
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {record["index"]: _checked(record) for record in records}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is broken ({type(error).__name__}: {error}). Evaluate again.") from error


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """A sample whose picture is an embedded image and nothing else (no address to load)."""
    wanted = ("ability", "question", "options", "answer", "prediction", "hit", "image")
    clean = {name: record[name] for name in wanted}
    if not str(clean["image"]).startswith(("data:image/png;base64,", "data:image/jpeg;base64,")):
        clean["image"] = ""
    return clean
