"""What the report's page shows, as plain rows of text: scores with intervals, comparisons, samples, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..results import bootstrap, scores
from ..results.bootstrap import Outcomes
from ..results.manifest import Made
from ..results.scores import Run
from . import paired_differences
from .group_table import Table
from .paired_differences import Gap


def score_table(
    table: Table, runs: Sequence[Run], baseline: str | None, outcomes: Mapping[str, Mapping[str, Outcomes]]
) -> dict[str, Any]:
    """Rows of cells {text, sort, interval, best}: each run's score with its 95 % interval; and chance."""
    places = [place for place, name in enumerate(table.datasets) if name in table.asked]
    rows = []
    for row, (run, values, mean) in enumerate(zip(runs, table.values, table.means, strict=True)):
        have = {name: outcomes[run.model][name] for name in table.datasets if name in outcomes[run.model]}
        cells: list[dict[str, Any]] = []
        for place in places:
            name, value = table.datasets[place], values[place]
            shown = bootstrap.interval(have[name], name) if name in have and value is not None else None
            cells.append(_cell(value, shown, (row, place) in table.best, table.missing(row, name)))
        whole = mean.value is not None and set(have) == set(table.datasets)
        interval = bootstrap.mean_interval(have) if whole else None
        last = _cell(mean.value, interval, (row, len(table.datasets)) in table.best, "withheld")
        rows.append({"model": run.model, "baseline": run.model == baseline, "cells": [*cells, last]})
    chance = [f"{table.chance[name]:.1f}" if name in table.chance else "–" for name in table.asked]
    guessed = table.chance_mean()
    return {
        "title": table.title,
        "header": table.header(table.asked),
        "rows": rows,
        "chance": [*chance, "–" if guessed is None else f"{guessed:.1f}"] if table.chance else [],
        "notes": [*table.notes, *table.not_asked(), *table.withheld(), *_counts(table, runs)],
    }


def _cell(value: float | None, shown: bootstrap.Interval | None, best: bool, missing: str) -> dict[str, Any]:
    if value is None:
        return {"text": missing, "sort": -1.0, "interval": "", "best": False, "missing": True}
    interval = "" if shown is None else f"{shown.low:.1f} to {shown.high:.1f}"
    return {"text": f"{value:.1f}", "sort": value, "interval": interval, "best": best, "missing": False}


def _counts(table: Table, runs: Sequence[Run]) -> list[str]:
    """How many questions and units stand behind each column."""
    sizes = []
    for name in table.datasets:
        entry: Mapping[str, Any] = next((run.benchmarks[name] for run in runs if name in run.benchmarks), {})
        if "units" in entry:
            size = f"{entry['questions']}"
            if entry["unit"] != "question":
                size += f" in {entry['units']} {entry['unit']}{'' if entry['units'] == 1 else 's'}"
            sizes.append(f"{scores.label(name)} {size}")
    return [f"Questions asked: {'; '.join(sizes)}."] if sizes else []


def comparison(
    table: Table, found: Mapping[str, Sequence[Gap]], base: str, method: str = paired_differences.METHOD
) -> dict[str, Any]:
    """Differences of every other run, or method, against the baseline, with intervals and p, or why not."""
    shown = {*table.asked, paired_differences.MEAN}
    rows = [
        {"model": model, "cells": [_difference(gap) for gap in row if gap.dataset in shown]}
        for model, row in found.items()
    ]
    return {
        "title": f"Difference from {base}: {table.title}",
        "header": table.header(table.asked),
        "rows": rows,
        "method": method,
        "notes": paired_differences.reasons(found),
    }


def _difference(gap: Gap) -> dict[str, Any]:
    if gap.found is None:
        return {"text": gap.text, "detail": [], "sign": ""}
    sign = "up" if gap.found.low > 0 else "down" if gap.found.high < 0 else ""
    detail = [f"{gap.found.low:+.1f} to {gap.found.high:+.1f}", gap.p]
    return {"text": f"{gap.found.estimate:+.1f}", "detail": detail, "sign": sign}


def provenance(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What was run, for each run: model, and of each benchmark its table, times, and with what where that differs."""
    found = []
    for run in runs:
        manifest = run.manifest
        facts = [("model", manifest.model_path), ("model sha256", manifest.model_sha256)]
        facts += [*_made_rows(manifest.made), ("finished", manifest.finished), ("seed", manifest.facts.get("seed"))]
        facts += _told("export", manifest.facts.get("export") or {})
        facts += [(f"not scored: {name}", reason) for name, reason in manifest.unscored.items()]
        datasets = []
        for name, record in manifest.datasets.items():
            total = sum(float(record.seconds.get(part, 0)) for part in ("inference", "scoring"))
            asked = "" if record.asked is None else str(record.asked)
            datasets.append([name, asked, f"{total:.1f}", record.sha256 or ""])
            last = dict(_made_rows(manifest.made))
            other = [f"{title} {text}" for title, text in _made_rows(record.made) if last.get(title) != text]
            if other:
                facts.append((f"otherwise: {name}", "; ".join(other)))
        shown = [(title, str(value)) for title, value in facts if value is not None]
        found.append({"model": run.model, "facts": shown, "datasets": datasets})
    return found


def _told(title: str, facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Facts within facts as rows of their own: "export: source: seed"."""
    rows: list[tuple[str, Any]] = []
    for name, value in facts.items():
        here = f"{title}: {name}"
        if isinstance(value, Mapping):
            rows += _told(here, value)
        elif value not in (None, ""):
            rows.append((here, value))
    return rows


def _made_rows(made: Made) -> list[tuple[str, str]]:
    """With what answers were made, as titles and texts; what is not known is left out."""
    names = ("command", "started", "judge", "decoding", "precision", "batch_size", "limit", "machine")
    rows = [(name.replace("_", " "), getattr(made, name)) for name in names]
    if made.git:
        rows.append(("source", f"commit {made.git.get('commit')}, {made.git.get('changed_files')} changed files"))
    if made.versions:
        rows.append(("versions", ", ".join(f"{name} {text}" for name, text in made.versions.items())))
    return [(title, str(value)) for title, value in rows if value is not None]
