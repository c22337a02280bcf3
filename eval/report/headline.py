"""What the tables come to, in words: who is best, by how much, whether that is more than noise, what could be shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from moslora_xtuner.errors import DataError

from ..results import bootstrap, comparability, power, scores, seeds
from ..results.bootstrap import Outcomes
from ..results.scores import Run
from ..results.seeds import Method, Spread
from .group_table import Table
from .paired_differences import p_text

ByModel = Mapping[str, Mapping[str, Outcomes]]
"""Outcomes by model, then by dataset."""

MORE, NOT_MORE = "more than noise", "not more than noise"
PLANNED = 0.2
"""The share of questions that two models get otherwise, where there is only one of them to look at."""
QUESTIONS = (
    "Noise here means which questions were asked (paired bootstrap). Each model is one training: how far another seed "
    "would have led is not in it."
)
SEEDS = "Noise here means which questions were asked and which seeds trained (paired bootstrap and Welch's t-test)."
_WHOLE = {"paper": "the nine benchmarks", "digits": "DigitsVQA's four benchmarks"}
_LISTED = 4
"""So many benchmarks are told one by one."""


@dataclass(frozen=True)
class Headline:
    """`result` is a sentence; `verdict`: MORE or NOT_MORE, "" where nothing is compared; the others may be ""."""

    result: str
    verdict: str = ""
    noise: str = ""
    power: str = ""

    def lines(self) -> list[str]:
        """Those that say something."""
        return [line for line in (self.result, self.noise, self.power) if line]


@dataclass(frozen=True)
class _Compared:
    """One method minus another; `shows`: the smallest difference that would be found, by level."""

    estimate: float
    low: float
    high: float
    p: float
    shows: Callable[[float], float]


def build(table: Table, runs: Sequence[Run], base: Run | None, outcomes: ByModel) -> Headline:
    """Of one group of benchmarks: the best method against the baseline's, or against the second where it is that."""
    found = seeds.methods(runs)
    ground = next((item for item in found if item.holds(base)), None)
    able = [
        item for item in found if any(run.normalised(name) is not None for run in item.runs for name in table.asked)
    ]
    datasets, contestants = _stage(table, able, ground)
    if not datasets:
        said = "No benchmark has a score of all models that can be compared, so none is called the best."
        return Headline(said)
    what = _what(table, datasets)
    ranked = sorted(contestants, key=lambda item: -item[1].mean)
    if len(ranked) == 1:
        return _alone(*ranked[0], datasets, what, outcomes)
    (best, score), (second, _) = ranked[:2]
    ahead = best is not ground
    rival = next((item for item, _ in ranked if item is ground and ahead), second)
    other, below = next(item for item in ranked if item[0] is rival)
    tries = len(ranked) - 1
    left = [item.name for item in found if all(item is not one for one, _ in ranked)]
    aside = f" Left out, for want of a score: {', '.join(left)}." if left else ""
    if tuple(datasets) != table.datasets:
        aside += f" {table.title}: the mean of all is withheld."
    scored = f"{_said(score)}, {score.mean - below.mean:.1f} points above {other.name} ({_said(below)})"
    start = f"{best.name} is best on {what}: {scored}"
    if math.isclose(score.mean, below.mean, abs_tol=1e-9):
        start = f"{best.name} and {other.name} are equal on {what}: {_said(score)}"
    elif not ahead:
        start = f"No model is above the baseline {best.name} on {what}: {scored}"
    try:
        compared = _compare(best, other, datasets, score, below, outcomes)
    except DataError as error:
        return Headline(f"{start}; {error}.{aside}")
    if compared is None:
        said = f"{start}; without outcomes of single questions nobody can say whether that is noise."
        return Headline(said + aside)
    corrected = min(1.0, compared.p * tries)
    verdict = MORE if corrected < power.LEVEL else NOT_MORE
    interval = f"95 % interval {compared.low:+.1f} to {compared.high:+.1f}, {p_text(compared.p)}"
    if tries > 1 and p_text(corrected) != p_text(compared.p):
        interval += f" ({p_text(corrected)} for {tries} comparisons)"
    several = best.several or other.several
    return Headline(
        f"{start}; {interval}: {verdict}.{aside}",
        verdict,
        SEEDS if several else QUESTIONS,
        _power(best, other, datasets, what, compared.shows(power.LEVEL / tries), outcomes),
    )


def _said(spread: Spread) -> str:
    if spread.deviation is None:
        return f"{spread.mean:.1f}"
    return f"{spread.mean:.1f} ± {spread.deviation:.1f} over {spread.seeds} seeds"


def _stage(
    table: Table, found: Sequence[Method], ground: Method | None
) -> tuple[tuple[str, ...], list[tuple[Method, Spread]]]:
    """The benchmarks on which methods are compared, and those that can be: all of the group where two have them all.

    Else the benchmarks that every run has a score of; empty where there are none, or the runs cannot be compared.
    """
    whole = [(item, spread) for item in found if (spread := seeds.mean(item, table.datasets)) is not None]
    everybody = [run for item, _ in whole for run in item.runs]
    there = ground is None or any(item is ground for item, _ in whole)
    enough = len(whole) == len(found) or (len(whole) > 1 and there)
    if whole and enough and not any(comparability.reasons(everybody, name) for name in table.datasets):
        return table.datasets, whole
    runs = [run for item in found for run in item.runs]
    common = tuple(
        name
        for name in table.asked
        if all(run.normalised(name) is not None for run in runs) and not comparability.reasons(runs, name)
    )
    spreads = [(item, spread) for item in found if common and (spread := seeds.mean(item, common)) is not None]
    return (common, spreads) if len(spreads) == len(found) else ((), [])


def _what(table: Table, datasets: Sequence[str]) -> str:
    """On what models are compared; a mean with the sign that it has in the table."""
    if len(datasets) == 1:
        return scores.label(datasets[0])
    if tuple(datasets) == table.datasets and (len(datasets) > _LISTED or table.group in _WHOLE):
        return f"the {table.mean_title} of {_WHOLE.get(table.group, f'all {len(datasets)} benchmarks')}"
    labels = [scores.label(name) for name in datasets]
    if len(labels) > _LISTED:
        return f"the mean of the {len(labels)} benchmarks that all have"
    return f"the mean of {', '.join(labels[:-1])} and {labels[-1]}"


def _compare(
    one: Method, other: Method, datasets: Sequence[str], ours: Spread, theirs: Spread, outcomes: ByModel
) -> _Compared | None:
    """None where nothing is known of the noise. Raises DataError for runs with other questions."""
    mine, ground = (
        [{name: outcomes[run.model][name] for name in datasets if name in outcomes[run.model]} for run in item.runs]
        for item in (one, other)
    )
    if one.several or other.several:
        found = seeds.difference(ours, theirs, mine, ground)
        if found is None:
            return None
        return _Compared(found.estimate, found.low, found.high, found.p, found.shows)
    if any(len(parts[0]) < len(datasets) for parts in (mine, ground)):
        return None
    paired = bootstrap.mean_difference(mine[0], ground[0])
    error = bootstrap.mean_standard_error(mine[0], ground[0])
    return _Compared(
        paired.estimate,
        paired.low,
        paired.high,
        paired.p,
        lambda level: power.deviations(level=level) * error,
    )


def _power(one: Method, other: Method, datasets: Sequence[str], what: str, shows: float, outcomes: ByModel) -> str:
    """How large a difference of the two would have been found, in all and on each benchmark."""
    if not shows:
        return "Both have the same result on every question, so nothing shows what these tables could have shown."
    said = f"Power: 80 % of such evaluations would find a difference of {shows:.1f} points on {what}"
    each: list[tuple[float, str]] = []
    for name in datasets if len(datasets) > 1 else ():
        ours, theirs = seeds.score(one, name), seeds.score(other, name)
        found = _compare(one, other, [name], ours, theirs, outcomes) if ours and theirs else None
        if found is not None and found.shows(power.LEVEL):
            each.append((found.shows(power.LEVEL), scores.label(name)))
    if each:
        said += f", on a single benchmark one of {_reach(each)}"
    return f"{said}; smaller ones are mostly missed."


def _reach(each: Sequence[tuple[float, str]]) -> str:
    """From the smallest to the largest of differences, with their benchmarks; one number where they are alike."""
    (low, first), (high, last) = min(each), max(each)
    return f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} ({first}) to {high:.1f} ({last})"


def _alone(method: Method, spread: Spread, datasets: Sequence[str], what: str, outcomes: ByModel) -> Headline:
    """One method: its score and its interval, and what a second one would need."""
    have = [{n: outcomes[run.model][n] for n in datasets if n in outcomes[run.model]} for run in method.runs]
    interval = ""
    if not method.several and len(have[0]) == len(datasets):
        found = bootstrap.mean_interval(have[0])
        interval = f" (95 % interval {found.low:.1f} to {found.high:.1f} over the questions)"
    units = {name: len(found.units) for name, found in have[0].items() if found.aggregate == "mean"}
    each = [
        (points, scores.label(name))
        for name, count in units.items()
        if (points := power.smallest(count, PLANNED)) is not None
    ]
    said = ""
    if each:
        said = (
            f"Power: beside a second model that gets {100 * PLANNED:.0f} % of the questions otherwise right or wrong, "
            f"80 % of evaluations would find on a benchmark a difference of {_reach(each)} points."
        )
    return Headline(
        f"{method.name} scores {_said(spread)} on {what}{interval}; there is no other to compare.", power=said
    )
