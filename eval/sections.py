"""What the report's page shows, as plain rows of text: tables with intervals, comparisons, provenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moslora_xtuner.errors import DataError

from . import scores, statistics
from .benchmarks import ABILITIES, ABILITY_TITLES, BENCHMARKS, GROUPS
from .paper import TABLE5
from .scores import Run
from .tables import Table

GROUP_TITLES = {
    "paper": "The nine benchmarks of the paper",
    "digits": "DigitsVQA (real handwriting)",
    "other": "Other benchmarks",
}


def score_table(table: Table, runs: Sequence[Run], baseline: str | None) -> dict[str, Any]:
    """Rows of cells {text, sort, interval, best}: the score of each run with its 95 % interval."""
    best = table.best()
    tops = [mean.value for mean in table.means if mean.value is not None]
    rows = []
    for run, values, mean in zip(runs, table.values, table.means, strict=True):
        outcomes = statistics.load_all(run.folder, run.benchmarks, table.datasets)
        cells: list[dict[str, Any]] = []
        for name, value, top in zip(table.datasets, values, best, strict=True):
            shown = statistics.interval(outcomes[name], name) if name in outcomes else None
            cells.append(_cell(value, shown, value is not None and value == top))
        whole = mean.value is not None and set(outcomes) == set(table.datasets)
        last = _cell(
            mean.value,
            statistics.mean_interval(outcomes) if whole else None,
            mean.value == max(tops, default=-1),
        )
        if mean.value is None:
            last["text"] = f"withheld: {mean.reason}"
        rows.append({"model": run.model, "baseline": run.model == baseline, "cells": [*cells, last]})
    title = GROUP_TITLES[table.group]
    return {
        "title": title,
        "header": table.header,
        "rows": rows,
        "notes": list(table.notes) + _counts(table, runs),
    }


def _cell(value: float | None, shown: statistics.Interval | None, best: bool) -> dict[str, Any]:
    if value is None:
        return {"text": "–", "sort": -1.0, "interval": "", "best": False}
    interval = "" if shown is None else f"{shown.low:.1f} to {shown.high:.1f}"
    return {"text": f"{value:.1f}", "sort": value, "interval": interval, "best": best}


def _counts(table: Table, runs: Sequence[Run]) -> list[str]:
    """How many questions and units stand behind each column, and how many answers could not be read."""
    sizes, failures = [], []
    for name in table.datasets:
        entry = next((run.benchmarks[name] for run in runs if name in run.benchmarks), {})
        if "units" in entry:
            plural = "" if entry["units"] == 1 else "s"
            size = f"{entry['questions']} in {entry['units']} {entry['unit']}{plural}"
            sizes.append(f"{scores.label(name)} {size}")
        unread = [
            f"{run.model} {run.benchmarks[name]['parse_failures']}"
            for run in runs
            if run.benchmarks.get(name, {}).get("parse_failures")
        ]
        if unread:
            failures.append(f"{scores.label(name)} ({', '.join(unread)})")
    notes = [f"Questions asked: {'; '.join(sizes)}."] if sizes else []
    if failures:
        notes.append(f"Answers that name no option, or neither yes nor no: {'; '.join(failures)}.")
    return notes


def comparison(table: Table, runs: Sequence[Run], baseline: str | None) -> dict[str, Any]:
    """Paired differences of every other run against the baseline, with intervals and p, or why not."""
    base = next(run for run in runs if run.model == baseline)
    ground = statistics.load_all(base.folder, base.benchmarks, table.datasets)
    rows = []
    for run in runs:
        if run.model == baseline:
            continue
        outcomes = statistics.load_all(run.folder, run.benchmarks, table.datasets)
        cells = [_pair(run, base, name, outcomes, ground) for name in table.datasets]
        if set(outcomes) == set(ground) == set(table.datasets) and all("p" in cell for cell in cells):
            cells.append(_difference(statistics.mean_difference(outcomes, ground)))
        else:
            means = scores.mean(run, table.datasets).value, scores.mean(base, table.datasets).value
            gap = None if None in means else means[0] - means[1]  # type: ignore[operator]
            cells.append(_plain(gap))
        rows.append({"model": run.model, "cells": cells})
    return {"title": GROUP_TITLES[table.group], "header": table.header, "rows": rows}


def _pair(
    run: Run,
    base: Run,
    name: str,
    outcomes: dict[str, statistics.Outcomes],
    ground: dict[str, statistics.Outcomes],
) -> dict[str, Any]:
    if name in outcomes and name in ground:
        try:
            return _difference(statistics.difference(outcomes[name], ground[name], name))
        except DataError as error:
            return {"text": "–", "detail": str(error), "sign": ""}
    one, other = run.normalised(name), base.normalised(name)
    return _plain(None if one is None or other is None else one - other)


def _plain(gap: float | None) -> dict[str, Any]:
    return {"text": "–" if gap is None else f"{gap:+.1f}", "detail": "", "sign": ""}


def _difference(found: statistics.Difference) -> dict[str, Any]:
    sign = "up" if found.low > 0 else "down" if found.high < 0 else ""
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    detail = f"{found.low:+.1f} to {found.high:+.1f}, {p}"
    return {"text": f"{found.estimate:+.1f}", "detail": detail, "sign": sign, "p": found.p}


def ability_tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each benchmark with the six abilities: circular, vanilla and chance of every run, in per cent."""
    found = []
    for dataset in dict.fromkeys(name for run in runs for name in run.benchmarks):
        have = [run for run in runs if set(ABILITIES) <= set(run.benchmarks.get(dataset, {}).get("abilities", {}))]
        if not have:
            continue
        circular = dataset in BENCHMARKS and BENCHMARKS[dataset].circular
        rows = []
        for run in have:
            entry = run.benchmarks[dataset]
            rows.append({"name": run.model, "rule": "circular" if circular else "accuracy", **_six(entry)})
            if entry.get("vanilla"):
                rows.append({"name": run.model, "rule": "vanilla", **_six(entry["vanilla"])})
        chance = have[0].benchmarks[dataset].get("chance")
        if chance:
            rows.append({"name": "chance", "rule": "circular" if circular else "accuracy", **_six(chance)})
            if chance.get("vanilla"):
                rows.append({"name": "chance", "rule": "vanilla", **_six(chance["vanilla"])})
        found.append({"title": scores.label(dataset), "rows": rows, "abilities": ABILITY_TITLES})
    return found


def _six(entry: dict[str, Any]) -> dict[str, Any]:
    abilities = entry.get("abilities", {})
    cells = [f"{abilities[name]:.1f}" if name in abilities else "–" for name in ABILITIES]
    return {"cells": [*cells, f"{entry['overall']:.1f}"]}


def subtask_tables(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """MME-like benchmarks: points (of 200) in each subtask, perception, cognition and all."""
    found = []
    for dataset in dict.fromkeys(name for run in runs for name in run.benchmarks):
        have = [run for run in runs if "perception" in run.benchmarks.get(dataset, {})]
        if not have:
            continue
        names = list(dict.fromkeys(name for run in have for name in run.benchmarks[dataset]["abilities"]))
        rows = [
            [title, *(f"{run.benchmarks[dataset]['abilities'].get(title, 0):.1f}" for run in have)] for title in names
        ]
        for title in ("perception", "cognition", "overall"):
            rows.append([title, *(f"{run.benchmarks[dataset][title]:.1f}" for run in have)])
        scale = have[0].benchmarks[dataset]["scale"]
        title = f"{scores.label(dataset)}: points, 200 a subtask, {scale:.0f} in all"
        found.append({"title": title, "header": ["subtask", *(run.model for run in have)], "rows": rows})
    return found


def paper_rows(tables: Sequence[Table]) -> dict[str, Any] | None:
    """Table 5 as printed, for reading beside measured scores of the same nine benchmarks; else None."""
    if not any(table.group == "paper" for table in tables):
        return None
    header = ["model (paper)", *(scores.label(name) for name in GROUPS["paper"]), "mean"]
    rows = [[row.name, *(f"{value:.1f}" for value in row.values), f"{row.mean:.1f}"] for row in TABLE5]
    return {"header": header, "rows": rows}


def provenance(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What was run, for each run: model, times, versions, datasets with their sha256."""
    found = []
    for run in runs:
        manifest = run.manifest
        facts = [
            (title, str(manifest[field]))
            for title, field in (
                ("model", "model_path"),
                ("model sha256", "model_sha256"),
                ("command", "command"),
                ("started", "started"),
                ("finished", "finished"),
                ("judge", "judge"),
                ("decoding", "decoding"),
                ("seed", "seed"),
                ("batch size", "batch_size"),
                ("limit", "limit"),
                ("machine", "machine"),
            )
            if manifest.get(field) is not None
        ]
        facts += [(f"export: {name}", str(value)) for name, value in (manifest.get("export") or {}).items()]
        if manifest.get("git"):
            git = manifest["git"]
            facts.append(("source", f"commit {git.get('commit')}, {git.get('changed_files')} changed files"))
        if manifest.get("versions"):
            versions = (f"{name} {text}" for name, text in manifest["versions"].items())
            facts.append(("versions", ", ".join(versions)))
        datasets = []
        for name, record in manifest.get("datasets", {}).items():
            seconds = record.get("seconds", {})
            total = sum(float(seconds.get(part, 0)) for part in ("inference", "scoring"))
            datasets.append([name, str(record.get("asked", "")), f"{total:.1f}", str(record.get("sha256", ""))])
        found.append({"model": run.model, "facts": facts, "datasets": datasets})
    return found
