"""Bootstrap intervals and paired comparisons, resampling VLMEvalKit's own units.

The unit is a circular group (MMBench), an image pair (MME) or a question; all questions that share one are
drawn together. Every score here is linear in the outcomes, so a paired comparison is a bootstrap of the
differences unit by unit. numpy alone, seeded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner.atomic import parse_json
from moslora_xtuner.errors import DataError

if TYPE_CHECKING:
    import numpy
    import numpy.typing

    Array = numpy.typing.NDArray[numpy.float64]

RESAMPLES = 10_000
_CHUNK = 8_000_000  # drawn counts held at once
_ZERO = 1e-9  # subtasks that cancel leave a rounding error, which must count as no difference


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of one benchmark: units, their abilities and scores, and how they make the overall.

    `factor` takes the aggregate (mean of scores, or sum of the subtasks' means) to the 100-scale.
    """

    units: tuple[str, ...]
    abilities: tuple[str, ...]
    scores: tuple[float, ...]
    aggregate: str
    factor: float

    def value(self) -> float:
        """The score on the 100-scale."""
        return float(_weights(self) @ _scores(self))


@dataclass(frozen=True)
class Interval:
    """An estimate on the 100-scale with its 95 % percentile interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference (this run minus the baseline) with its two-sided bootstrap p-value."""

    p: float


def load(folder: Path, dataset: str, entry: Mapping[str, Any]) -> Outcomes | None:
    """The outcomes that the bridge left in a run folder, or None where there are none.

    `entry`: the benchmark's entry in scores.json. Raises DataError for a broken file.
    """
    path = folder / "outcomes" / f"{dataset}.jsonl"
    if not path.is_file():
        return None
    try:
        records = [parse_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        aggregate = str(entry.get("aggregate", "mean"))
        return Outcomes(
            units=tuple(str(record["unit"]) for record in records),
            abilities=tuple(str(record["ability"]) for record in records),
            scores=tuple(float(record["score"]) for record in records),
            aggregate=aggregate,
            factor=100.0 / float(entry["scale"]) if aggregate == "subtask_sum" else 100.0,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is broken ({type(error).__name__}: {error}). Evaluate it again.") from error


def _scores(outcomes: Outcomes) -> Array:
    import numpy

    return numpy.asarray(outcomes.scores, dtype=numpy.float64)


def _strata(outcomes: Outcomes) -> Sequence[str]:
    """The groups that keep their size in every draw: subtasks where their means are summed, else one."""
    return outcomes.abilities if outcomes.aggregate == "subtask_sum" else [""] * len(outcomes.units)


def _weights(outcomes: Outcomes) -> Array:
    """Each unit's weight in the overall score: factor / n, n the size of its ability for MME-like sums."""
    import numpy

    names = numpy.asarray(_strata(outcomes))
    _, place, count = numpy.unique(names, return_inverse=True, return_counts=True)
    weights: Array = outcomes.factor / count[place].astype(numpy.float64)
    return weights


def _draws(outcomes: Outcomes, values: Array, name: str, resamples: int, seed: int) -> Array:
    """`resamples` bootstrap draws of the overall score; the same data, name and seed give the same draws.

    Units are exchangeable, so what is drawn is how often each distinct value comes up: a multinomial count. That is
    the distribution of the sum over units drawn one by one, at the cost of the few values instead of all units.
    """
    import numpy

    stream = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = numpy.random.default_rng([seed, stream])
    weighted = _weights(outcomes) * values
    names = numpy.asarray(_strata(outcomes))
    total = numpy.zeros(resamples)
    for group in numpy.unique(names):  # subtasks keep their size: each is drawn for itself
        distinct, counts = numpy.unique(weighted[names == group], return_counts=True)
        size = int(counts.sum())
        rows = max(1, _CHUNK // len(distinct))
        for start in range(0, resamples, rows):
            drawn = generator.multinomial(size, counts / size, min(rows, resamples - start))
            total[start : start + len(drawn)] += drawn @ distinct
    return total


def _interval(estimate: float, draws: Array) -> Interval:
    import numpy

    low, high = numpy.percentile(draws, [2.5, 97.5])
    return Interval(estimate, float(low), float(high))


def _difference(estimate: float, draws: Array) -> Difference:
    import numpy

    low, high = numpy.percentile(draws, [2.5, 97.5])
    below, above = int((draws <= _ZERO).sum()), int((draws >= -_ZERO).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (len(draws) + 1))
    return Difference(estimate, float(low), float(high), p)


def interval(outcomes: Outcomes, name: str, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The score of one benchmark with its 95 % interval."""
    return _interval(outcomes.value(), _draws(outcomes, _scores(outcomes), name, resamples, seed))


def mean_interval(runs: Mapping[str, Outcomes], *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean over benchmarks (name to outcomes) with its interval; benchmarks are drawn independently."""
    import numpy

    draws = numpy.mean([_draws(o, _scores(o), n, resamples, seed) for n, o in runs.items()], axis=0)
    return _interval(float(numpy.mean([outcomes.value() for outcomes in runs.values()])), draws)


def paired(run: Outcomes, baseline: Outcomes) -> tuple[Outcomes, Array]:
    """Align two runs by unit: the run in the baseline's order, and the differences of the scores.

    Raises DataError when the two were not asked the same units: they cannot be compared.
    """
    import numpy

    place = {unit: i for i, unit in enumerate(run.units)}
    if set(place) != set(baseline.units) or len(place) != len(baseline.units):
        raise DataError("the runs were not asked the same questions")
    order = [place[unit] for unit in baseline.units]
    if tuple(run.abilities[i] for i in order) != baseline.abilities or run.factor != baseline.factor:
        raise DataError("the runs were not asked the same version of the benchmark")
    return baseline, numpy.asarray(run.scores)[order] - _scores(baseline)


def difference(
    run: Outcomes, baseline: Outcomes, name: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Run minus baseline on one benchmark: paired bootstrap over the shared units."""
    aligned, values = paired(run, baseline)
    draws = _draws(aligned, values, name, resamples, seed)
    return _difference(float(_weights(aligned) @ values), draws)


def mean_difference(
    runs: Mapping[str, Outcomes],
    baseline: Mapping[str, Outcomes],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """Run minus baseline on the mean over the benchmarks; both must hold the same ones."""
    import numpy

    estimates, draws = [], []
    for name, outcomes in runs.items():
        aligned, values = paired(outcomes, baseline[name])
        estimates.append(float(_weights(aligned) @ values))
        draws.append(_draws(aligned, values, name, resamples, seed))
    return _difference(float(numpy.mean(estimates)), numpy.mean(draws, axis=0))


def standard_error(run: Outcomes, baseline: Outcomes) -> float:
    """The standard error of `difference`, in points: that of the bootstrap's draws, in closed form.

    The square is the sum over the groups that keep their size of n x weight² x the variance of their differences.
    """
    import numpy

    aligned, values = paired(run, baseline)
    weighted = _weights(aligned) * values
    names = numpy.asarray(_strata(aligned))
    parts = (weighted[names == group] for group in numpy.unique(names))
    return float(numpy.sqrt(sum(len(part) * part.var() for part in parts)))


def mean_standard_error(runs: Mapping[str, Outcomes], baseline: Mapping[str, Outcomes]) -> float:
    """The standard error of `mean_difference`, in points."""
    squares = (standard_error(outcomes, baseline[name]) ** 2 for name, outcomes in runs.items())
    return math.sqrt(sum(squares)) / len(runs)


def averaged(runs: Sequence[Outcomes]) -> Outcomes:
    """The mean score of each unit over several runs on the same units, in the order of the first.

    Raises DataError when they were not asked the same units.
    """
    import numpy

    first = runs[0]
    differences = [paired(run, first)[1] for run in runs]
    scores = _scores(first) + numpy.mean(differences, axis=0)
    return replace(first, scores=tuple(map(float, scores)))


def load_all(folder: Path, benchmarks: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Outcomes]:
    """The outcomes of those benchmarks of a run that have any."""
    found = {name: load(folder, name, benchmarks[name]) for name in names if name in benchmarks}
    return {name: outcomes for name, outcomes in found.items() if outcomes is not None}
