"""Every run against the baseline: the paired difference on each benchmark and on the mean, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moslora_xtuner.errors import DataError, UsageError

from ..results import bootstrap, comparability, scores
from ..results.bootstrap import Difference, Outcomes
from ..results.scores import Run
from .formats import Grid

MEAN = "mean"
METHOD = (
    "Points of the 100-scale; paired bootstrap over the units that both were asked (10,000 draws), 95 % interval and "
    "two-sided p, without correction for many comparisons. The interval is about questions, not about training seeds."
)
NO_OUTCOMES = "no outcomes of single questions, so no interval"


@dataclass(frozen=True)
class Gap:
    """One run minus the baseline on one benchmark (or MEAN), in points of the 100-scale.

    `found`: the difference with interval and p; without it `estimate` alone, or None where the two cannot be compared;
    `reason` says why something is lacking.
    """

    model: str
    dataset: str
    found: Difference | None
    estimate: float | None
    reason: str = ""

    @property
    def p(self) -> str:
        """The p-value as text, "" where there is none."""
        return "" if self.found is None else p_text(self.found.p)

    @property
    def text(self) -> str:
        """The difference in short: "+1.2 (+0.3 to +2.1), p = 0.010", "+1.2", or a dash."""
        if self.found is not None:
            return f"{self.found.estimate:+.1f} ({self.found.low:+.1f} to {self.found.high:+.1f}), {self.p}"
        return "–" if self.estimate is None else f"{self.estimate:+.1f}"


def p_text(p: float) -> str:
    """A p-value for people."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def find(runs: Sequence[Run], baseline: str) -> Run:
    """The run of that name. Raises UsageError when there is none."""
    for run in runs:
        if run.model == baseline:
            return run
    names = ", ".join(run.model for run in runs)
    raise UsageError(f"There is no run named {baseline!r} to compare with. Runs: {names}.")


def gaps(
    runs: Sequence[Run],
    base: Run,
    datasets: Sequence[str],
    outcomes: Mapping[str, Mapping[str, Outcomes]],
) -> dict[str, list[Gap]]:
    """For each other run its differences on every benchmark, the mean last. `outcomes`: model, then dataset."""
    found: dict[str, list[Gap]] = {}
    for run in runs:
        if run is base:
            continue
        row = [_gap(run, base, name, outcomes) for name in datasets]
        found[run.model] = [*row, _mean(run, base, row, outcomes)]
    return found


def _gap(run: Run, base: Run, name: str, outcomes: Mapping[str, Mapping[str, Outcomes]]) -> Gap:
    one, other = run.normalised(name), base.normalised(name)
    if one is None and other is None:  # the table of scores says that already
        return Gap(run.model, name, None, None)
    if one is None or other is None:
        return Gap(run.model, name, None, None, f"no score of {run.model if one is None else base.model}")
    if against := comparability.reasons((run, base), name):
        return Gap(run.model, name, None, None, "; ".join(against))
    mine, ground = outcomes[run.model].get(name), outcomes[base.model].get(name)
    if mine is None or ground is None:
        return Gap(run.model, name, None, one - other, NO_OUTCOMES)
    try:
        return Gap(run.model, name, bootstrap.difference(mine, ground, name), one - other)
    except DataError as error:
        return Gap(run.model, name, None, None, str(error))


def _mean(run: Run, base: Run, row: Sequence[Gap], outcomes: Mapping[str, Mapping[str, Outcomes]]) -> Gap:
    datasets = [gap.dataset for gap in row]
    one, other = comparability.mean(run, datasets), comparability.mean(base, datasets)
    if one.value is None or other.value is None:
        whose = run.model if one.value is None else base.model
        return Gap(run.model, MEAN, None, None, f"no mean of {whose}: {one.reason or other.reason}")
    barred = [scores.label(gap.dataset) for gap in row if gap.estimate is None]
    if barred:
        return Gap(run.model, MEAN, None, None, f"not comparable on {', '.join(barred)}")
    if any(gap.found is None for gap in row):
        return Gap(run.model, MEAN, None, one.value - other.value, NO_OUTCOMES)
    mine = {name: outcomes[run.model][name] for name in datasets}
    ground = {name: outcomes[base.model][name] for name in datasets}
    return Gap(run.model, MEAN, bootstrap.mean_difference(mine, ground), one.value - other.value)


def reasons(found: Mapping[str, Sequence[Gap]]) -> list[str]:
    """One line for each reason why a difference, or its interval, is lacking, with where it is."""
    where: dict[str, list[str]] = {}
    for model, row in found.items():
        for gap in row:
            if gap.reason:
                where.setdefault(f"{model}: {gap.reason}", []).append(scores.label(gap.dataset))
    return [f"{', '.join(labels)}: {text.rstrip('.')}." for text, labels in where.items()]


def _asked(found: Mapping[str, Sequence[Gap]]) -> list[tuple[str, list[str]]]:
    """The benchmarks of which there is something to say, and the texts of all runs."""
    rows = ([row[place] for row in found.values()] for place in range(len(next(iter(found.values()), ()))))
    return [
        (row[0].dataset, [gap.text for gap in row])
        for row in rows
        if row[0].dataset == MEAN or any(gap.estimate is not None or gap.reason for gap in row)
    ]


def grid(found: Mapping[str, Sequence[Gap]], base: str, method: str = METHOD) -> Grid:
    """The differences as a table: a row a benchmark, a column a model."""
    rows = [[scores.label(name), *texts] for name, texts in _asked(found)]
    return Grid(["benchmark", *found], rows, f"Difference from {base}", [method, *reasons(found)])


def as_json(found: Mapping[str, Sequence[Gap]], base: Run) -> dict[str, Any]:
    """The differences in whole precision: baseline, and for each model and benchmark difference, low, high, p."""
    rows = []
    for gap in (gap for row in found.values() for gap in row):
        row: dict[str, Any] = {"model": gap.model, "dataset": gap.dataset, "difference": gap.estimate}
        if gap.found is not None:
            row |= {"low": gap.found.low, "high": gap.found.high, "p": gap.found.p}
        if gap.reason:
            row["reason"] = gap.reason
        rows.append(row)
    return {"baseline": base.model, "scale": 100, "rows": rows, "method": METHOD}
