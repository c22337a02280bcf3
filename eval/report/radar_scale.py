"""What the ability radars show: their panels, and the scale that each axis has.

Normalised, each axis is score / best score on that axis among the models drawn, so the best is at 1.0, and the
radial range starts below the lowest point, so that differences show; where that is far below, the radius grows with a
power of the score, so that models near the best are told apart all the same. Absolute, each axis is the score in per
cent from 0 to the next ten above the best.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..results import comparability, seeds
from ..results.scores import Run
from ..tasks.registry import ABILITIES, BENCHMARKS

EACH = 3
"""Up to so many models have their values at the axes."""
STEEPEST = 4
"""The highest power of the radius."""
APART = 0.08
"""The part of the radius that the best two of an axis shall lie apart, in the middle of the axes."""
NAMES = {"en": "English", "cn": "Chinese"}


@dataclass(frozen=True)
class Panel:
    """One radar: a title, and for each model its six abilities in per cent, in the order of ABILITIES."""

    dataset: str
    title: str
    values: dict[str, tuple[float, ...]]


def panels(runs: Sequence[Run], datasets: Sequence[str]) -> list[Panel]:
    """English and Chinese radars of a table's benchmarks, with the runs that have all six abilities there.

    Seeds of one method are one line, the mean of each ability, named with their number.
    """
    found = []
    for dataset in datasets:
        benchmark = BENCHMARKS.get(dataset)
        if benchmark is None or not benchmark.circular:
            continue
        values = {}
        for method in seeds.methods([run for run in runs if set(ABILITIES) <= set(_abilities(run, dataset))]):
            alike = not comparability.reasons(method.runs, dataset)
            lines = {f"{method.name} ({len(method.runs)} seeds)": method.runs} if method.several and alike else None
            for name, members in (lines or {run.model: (run,) for run in method.runs}).items():
                values[name] = tuple(
                    statistics.fmean(float(_abilities(run, dataset)[ability]) for run in members)
                    for ability in ABILITIES
                )
        if values:
            found.append(Panel(dataset, f"{NAMES[benchmark.language]} ({benchmark.label})", values))
    return found


def _abilities(run: Run, dataset: str) -> Mapping[str, float]:
    found: Mapping[str, float] = run.benchmarks.get(dataset, {}).get("abilities", {})
    return found


def normalise(panel: Panel) -> dict[str, tuple[float, ...]]:
    """Each value over the best value of its axis (0 where nobody scores)."""
    best = [max(column) for column in zip(*panel.values.values(), strict=True)]
    return {
        model: tuple(value / top if top else 0.0 for value, top in zip(values, best, strict=True))
        for model, values in panel.values.items()
    }


def lower_end(shown: Sequence[Panel]) -> float:
    """Where the radial axis starts: a round tenth below the lowest point of all panels, shared by them."""
    lowest = min(value for panel in shown for values in normalise(panel).values() for value in values)
    return max(0.0, math.floor((lowest - 0.15 * (1 - lowest)) * 10 - 1e-9) / 10)


def caption(shown: Sequence[Panel], *, absolute: bool) -> str:
    """What the axes mean: to stand below the figure."""
    numbers = (
        "At the axes: each model's score in per cent."
        if len(models_of(shown)) <= EACH
        else "At the axes: the best score in per cent, after the sign of the model that has it."
    )
    scale = scaled(shown[0], shown, absolute)
    if absolute:
        return f"Each axis: score in per cent (centre = 0, rim = {scale.high:.0f}).\n{numbers}"
    said = f"Each axis: score / best score of the models shown (best = 1.0; centre = {scale.low:.1f}).\n"
    if scale.power > 1:
        ordinal = {2: "2nd", 3: "3rd", 4: "4th"}[scale.power]
        said += (
            f"The radius grows with the {ordinal} power, so that models near the best can be told apart: the rings "
            "tell the values.\n"
        )
    return said + numbers


@dataclass(frozen=True)
class Scale:
    """What is drawn: the values, the range of the radial axis, its rings, and the power with which the radius grows."""

    values: dict[str, tuple[float, ...]]
    low: float
    high: float
    ticks: dict[float, str]
    power: int = 1

    def place(self, value: float) -> float:
        """Where a value is drawn, between `low` and `high`."""
        return _place(value, self.low, self.high, self.power)


def _place(value: float, low: float, high: float, power: int) -> float:
    if power == 1:
        return value
    return float(low + (high - low) * ((value - low) / (high - low)) ** power)


def scaled(panel: Panel, shown: Sequence[Panel], absolute: bool) -> Scale:
    if absolute:
        highest = max(value for item in shown for values in item.values.values() for value in values)
        rim = max(10, 10 * math.ceil(highest / 10 - 1e-9))
        step = 20 if rim > 50 else 10
        return Scale(panel.values, 0.0, float(rim), {float(tick): str(tick) for tick in range(rim, 0, -step)})
    low, power = lower_end(shown), steepness(shown)
    ticks: list[float] = []
    for tick in (tenth / 10 for tenth in range(10, round(10 * low), -1)):
        room = 0.13 if power > 1 or low >= 0.55 else 0.19
        if not ticks or _place(ticks[-1], low, 1, power) - _place(tick, low, 1, power) >= room * (1 - low) - 1e-9:
            ticks.append(tick)
    return Scale(normalise(panel), low, 1.0, {tick: f"{tick:.1f}" for tick in ticks}, power)


def steepness(shown: Sequence[Panel]) -> int:
    """The power of the radius: 1, or where the centre is low the smallest that tells the best two models apart."""
    low = lower_end(shown)
    axes = [sorted(column) for panel in shown for column in zip(*normalise(panel).values(), strict=True)]
    pairs = [(values[-1], values[-2]) for values in axes if len(values) > 2 and values[-1] > values[-2]]
    if low >= 0.5 or not pairs:
        return 1
    for power in range(1, STEEPEST):
        gaps = [_place(top, low, 1, power) - _place(second, low, 1, power) for top, second in pairs]
        if statistics.median(gaps) >= APART * (1 - low):
            return power
    return STEEPEST


def models_of(shown: Sequence[Panel]) -> list[str]:
    return list(dict.fromkeys(model for panel in shown for model in panel.values))
