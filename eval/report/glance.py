"""Each run in one line: seed, trained parameters, time, precision, machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moslora_xtuner.training.artifacts import kept_text

from ..results.scores import Run
from .formats import Grid

HEADER = ("model", "seed", "trained parameters", "training", "adapter of", "evaluation", "precision", "answered on")


def grid(runs: Sequence[Run]) -> Grid | None:
    """A row a run; what no run says has no column, and None where none says anything."""
    rows = [[run.model, *_facts(run)] for run in runs]
    shown = [place for place in range(len(HEADER)) if any(row[place] for row in rows)]
    if len(shown) < 2:
        return None
    cells = [[row[place] or "–" for place in shown] for row in rows]
    return Grid([HEADER[place] for place in shown], cells, "The runs")


def _facts(run: Run) -> list[str]:
    source = _trained(run)
    trainable = source.get("trainable")
    weights = sum(trainable.values()) if isinstance(trainable, Mapping) else 0
    seed = run.manifest.facts.get("seed", source.get("seed"))
    made = [run.manifest.made_of(name) for name in run.benchmarks] or [run.manifest.made]
    spent = sum(
        float(record.seconds.get(part, 0))
        for record in run.manifest.datasets.values()
        for part in ("inference", "scoring")
    )
    served = run.manifest.facts.get("served_by")
    return [
        "" if seed is None else str(seed),
        f"{weights:,}" if weights else "",
        time_text(float(source.get("seconds") or 0)),
        str(run.manifest.facts.get("adapter_of") or _kept(source)),
        time_text(spent),
        _all(item.precision for item in made),
        f"served by {served}" if served else _all(item.machine for item in made),
    ]


def _kept(source: Mapping[str, Any]) -> str:
    validation = source.get("validation")
    return kept_text(validation) if isinstance(validation, Mapping) else ""


def _trained(run: Run) -> Mapping[str, Any]:
    """The record of the training behind an export, as far as the manifest has it."""
    export = run.manifest.facts.get("export")
    source = export.get("source") if isinstance(export, Mapping) else None
    return source if isinstance(source, Mapping) else {}


def seed_of(run: Run) -> Any:
    """The seed of the training, None where the run does not say."""
    return run.manifest.facts.get("seed", _trained(run).get("seed"))


def _all(values: Any) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))


def time_text(seconds: float) -> str:
    """Seconds as people say them: 48 s, 12 min, 1.5 h; "" for none."""
    if not seconds:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
