"""Several trainings of one method that differ in the seed: who they are, mean and spread, and methods compared.

A difference of two methods varies with the questions that were asked and with the seeds that were trained. The
questions' part is that of the paired bootstrap on the units' scores averaged over the seeds; the seeds' part is that of
Welch's test on the seeds' scores. Both are added as variances, which counts a little of the questions' part twice and
so errs on the side of noise.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import bootstrap, comparability, power
from .bootstrap import Outcomes
from .scores import Run

_SEED = re.compile(r"[\s,;:_/.(\[-]+seed[\s=:_-]*\d+[\s)\]]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Method:
    """Runs that differ in the seed alone, as their names say: "LoRA, seed 1" and "LoRA, seed 2" are of LoRA."""

    name: str
    runs: tuple[Run, ...]

    def holds(self, run: Run | None) -> bool:
        """Whether that run is one of them."""
        return any(run is item for item in self.runs)

    @property
    def several(self) -> bool:
        """Whether there is more than one seed."""
        return len(self.runs) > 1


@dataclass(frozen=True)
class Spread:
    """The mean of a score over seeds and its standard deviation between them; None for one seed."""

    mean: float
    deviation: float | None
    seeds: int


@dataclass(frozen=True)
class Difference:
    """One method minus another: a 95 % interval and two-sided p of Student's t, over questions and seeds.

    `error`: its standard error; `freedom`: degrees of freedom, infinite where the questions alone decide.
    `questions`: whether the questions' part is in it (the runs keep outcomes).
    """

    estimate: float
    low: float
    high: float
    p: float
    error: float
    freedom: float
    questions: bool

    def shows(self, level: float = power.LEVEL) -> float:
        """The smallest difference that 80 % of such evaluations would show, in points."""
        from scipy import stats

        return float(sum(stats.t.ppf([1 - level / 2, power.POWER], self.freedom))) * self.error


def stem(model: str) -> str:
    """The name without the seed at its end: "LoRA" of "LoRA, seed 1", "LoRA (seed 1)" and "LoRA-seed1"."""
    return _SEED.sub("", model)


def methods(runs: Sequence[Run]) -> list[Method]:
    """The runs by method, in their order. A name of which there is one run alone is kept whole."""
    by_stem: dict[tuple[str, bool], list[Run]] = {}
    for run in runs:
        name = stem(run.model)
        by_stem.setdefault((name, name != run.model), []).append(run)
    taken = {run.model for run in runs}
    return [
        Method(found[0].model if len(found) == 1 else f"{name} (seeds)" if name in taken else name, tuple(found))
        for (name, _), found in by_stem.items()
    ]


def spread(values: Sequence[float]) -> Spread:
    """Of the seeds' scores."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def score(method: Method, dataset: str) -> Spread | None:
    """A benchmark's score over the seeds; None where a seed has none, or the seeds were not asked alike."""
    values = [run.normalised(dataset) for run in method.runs]
    found = [value for value in values if value is not None]
    if len(found) < len(values) or comparability.reasons(method.runs, dataset):
        return None
    return spread(found)


def mean(method: Method, datasets: Sequence[str]) -> Spread | None:
    """The mean over a set of benchmarks; None where a seed has none, or the seeds were not asked alike."""
    found = [comparability.mean(run, datasets).value for run in method.runs]
    values = [value for value in found if value is not None]
    if len(values) < len(found) or any(comparability.reasons(method.runs, name) for name in datasets):
        return None
    return spread(values)


def difference(
    one: Spread, other: Spread, ours: Sequence[Mapping[str, Outcomes]], theirs: Sequence[Mapping[str, Outcomes]]
) -> Difference | None:
    """One method minus another, from what their seeds scored and the outcomes of each.

    Of a method with one seed the other's spread is taken. None where neither has several, or nothing varies at all.

    Args:
        one, other: over the seeds.
        ours, theirs: the outcomes of the benchmarks (all of a mean's, or one) for each seed; empty ones where a run
            keeps none, and the questions' part is left out.

    Raises:
        DataError: the runs were not asked the same questions.
    """
    from scipy import stats

    known = [item for item in (one, other) if item.deviation is not None]
    if not known:
        return None
    parts = []
    for item in (one, other):
        source = item if item.deviation is not None else known[0]
        assert source.deviation is not None
        parts.append((source.deviation**2 / item.seeds, source.seeds - 1))
    names = list(ours[0]) if ours else []
    whole = bool(names) and all(set(found) == set(names) for found in (*ours, *theirs))
    asked = 0.0
    if whole:
        mine, ground = ({n: bootstrap.averaged([f[n] for f in found]) for n in names} for found in (ours, theirs))
        asked = bootstrap.mean_standard_error(mine, ground) ** 2
    variance = asked + sum(square for square, _ in parts)
    error, estimate = math.sqrt(variance), one.mean - other.mean
    spoken = sum(square**2 / freedom for square, freedom in parts)
    freedom = variance**2 / spoken if spoken else math.inf
    if not error:  # equal seeds and no outcomes say nothing of noise
        return None
    half = float(stats.t.ppf(1 - power.LEVEL / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(estimate) / error, freedom))
    return Difference(estimate, estimate - half, estimate + half, p, error, freedom, whole)
