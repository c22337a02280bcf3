"""One group of benchmarks as a table of scores: models by benchmarks with the mean last, and what is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moslora_xtuner.errors import UsageError

from ..results import comparability, scores
from ..results.scores import Mean, Run
from ..tasks.registry import GROUPS, STANDS_IN
from ..tasks.registry import columns as columns_of
from .best import best_of
from .formats import Grid

TITLES = {
    "paper": "The nine benchmarks of the paper",
    "digits": "DigitsVQA (real handwriting)",
    "commonsense": "Commonsense reasoning, the authors' protocol",
    "commonsense-greedy": "Commonsense reasoning, greedy answers",
    "small-worlds": "Small worlds (made up), greedy answers",
    "other": "Other benchmarks",
}
NO_SCORE, NOT_ASKED = "no score", "-"


@dataclass(frozen=True)
class Table:
    """Normalised scores (0 to 100): one row a model; `values[i][j]` is None where a run has no such score.

    `datasets` are all of the group, `asked` those that any of the runs was asked; `reasons[i]` says of which of them,
    and why, a run has no score all the same. `best` holds (row, column) of the best scores, the mean's column last; of
    a benchmark on which the runs cannot be compared there is none.
    """

    group: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    means: tuple[Mean, ...]
    notes: tuple[str, ...]
    asked: tuple[str, ...]
    reasons: tuple[Mapping[str, str], ...]
    best: frozenset[tuple[int, int]]
    chance: Mapping[str, float]

    @property
    def title(self) -> str:
        """The heading of the group."""
        return TITLES.get(self.group, self.group)

    def header(self, datasets: Sequence[str]) -> list[str]:
        """Column titles, the model first and the mean last."""
        return ["model", *(scores.label(name) for name in datasets), self.mean_title]

    @property
    def mean_title(self) -> str:
        """What the mean is called in every table; marked where it is not of the paper's own splits."""
        return "mean*" if stands_in(self.datasets) else "mean"

    def grid(self, digits: int, *, titled: bool = False, whole: bool = False) -> Grid:
        """The table as text, the best of each column bold.

        A dash stands for what was not asked, "no score" for what was and has none, a mean's reason in its place.
        Columns that no run was asked are left out and named in the notes. `whole`, for programs: all columns, and a
        dash wherever there is no number.
        """
        shown = self.datasets if whole else self.asked
        rows, bold = [], set()
        for row, (model, values, mean) in enumerate(zip(self.models, self.values, self.means, strict=True)):
            cells = [model]
            for column, (name, value) in enumerate(zip(self.datasets, values, strict=True)):
                if name in shown:
                    bold |= {(row, len(cells))} if (row, column) in self.best else set()
                    lacking = NOT_ASKED if whole else self.missing(row, name)
                    cells.append(lacking if value is None else f"{value:.{digits}f}")
            bold |= {(row, len(cells))} if (row, len(self.datasets)) in self.best else set()
            cells.append(f"withheld: {mean.reason}" if mean.value is None else f"{mean.value:.{digits}f}")
            rows.append(cells)
        notes = self.notes if whole else (*self.notes, *self.not_asked())
        return Grid(self.header(shown), rows, self.title if titled else "", notes, frozenset(bold))

    def missing(self, row: int, dataset: str) -> str:
        """What stands in the place of a score."""
        return NO_SCORE if dataset in self.reasons[row] else NOT_ASKED

    def chance_mean(self) -> float | None:
        """What guessing scores on the mean, where it is known of every benchmark."""
        if set(self.chance) != set(self.datasets):
            return None
        return sum(self.chance.values()) / len(self.chance)

    def withheld(self) -> list[str]:
        """Why means are withheld, once for all models of which the same is true."""
        whose: dict[str, list[str]] = {}
        for model, mean in zip(self.models, self.means, strict=True):
            if mean.value is None:
                whose.setdefault(mean.reason, []).append(model)
        return [f"Mean of {', '.join(models)} withheld: {reason}." for reason, models in whose.items()]

    def not_asked(self) -> list[str]:
        """Which of the group's benchmarks no run was asked."""
        lacking = [scores.label(name) for name in self.datasets if name not in self.asked]
        return [f"Not asked of any model: {', '.join(lacking)}."] if lacking else []


def _asked(run: Run) -> list[str]:
    """Every benchmark that a run was asked, scored or not."""
    return [*run.benchmarks, *run.manifest.unscored]


def groups_of(runs: Sequence[Run]) -> list[str]:
    """The named sets of benchmarks of which the runs hold something; "other" for datasets of no set."""
    present = {name for run in runs for name in _asked(run)}
    known = [group for group, names in GROUPS.items() if present & set(names)]
    return known + (["other"] if present - _placed(runs, present) else [])


def groups(runs: Sequence[Path]) -> list[str]:
    """The same of run folders. Raises DataError for one without valid scores."""
    return groups_of([scores.read(Path(folder)) for folder in runs])


def datasets_of(runs: Sequence[Run], group: str) -> tuple[str, ...]:
    """The columns of a group: all of a named set, or whatever else the runs hold."""
    if group in GROUPS:
        return columns_of(group, {name for run in runs for name in run.benchmarks})
    placed = _placed(runs, {name for run in runs for name in _asked(run)})
    return tuple(dict.fromkeys(name for run in runs for name in _asked(run) if name not in placed))


def _placed(runs: Sequence[Run], present: set[str]) -> set[str]:
    """The datasets with a place in a named group's table; what stands in for another only where that table is shown."""
    scored = {name for run in runs for name in run.benchmarks}
    shown = {name for group, names in GROUPS.items() if present & set(names) for name in columns_of(group, scored)}
    return shown | {name for names in GROUPS.values() for name in names}


def stands_in(datasets: Sequence[str]) -> list[str]:
    """Those of a table that stand in for a test set of the paper."""
    return [name for name in datasets if name in STANDS_IN.values()] if set(datasets) & set(GROUPS["paper"]) else []


def build(runs: Sequence[Run], group: str | None = None) -> Table:
    """The table of one group of benchmarks (default: the first that the runs hold anything of).

    Raises UsageError when there is no run or no score.
    """
    if not runs:
        raise UsageError("No run was given: name run folders that hold a scores.json.")
    groups = groups_of(runs)
    if not groups:
        raise UsageError("The runs hold no benchmark at all: evaluate the models first.")
    group = group or groups[0]
    datasets = datasets_of(runs, group)
    values = tuple(tuple(run.normalised(name) for name in datasets) for run in runs)
    means = tuple(comparability.mean(run, datasets) for run in runs)
    reasons = tuple({n: why for n in datasets if (why := comparability.unscored(run, n)) is not None} for run in runs)
    barred = {name for name in datasets if comparability.reasons(runs, name)}
    columns = [(name in barred, column) for name, column in zip(datasets, zip(*values, strict=True), strict=True)]
    columns.append((bool(barred), tuple(mean.value for mean in means)))
    best = {(row, column) for column, (bar, cells) in enumerate(columns) if not bar for row in best_of(cells)}
    notes = comparability.notes(runs, datasets)
    if names := [scores.label(name) for name in stands_in(datasets)]:
        said = "is another split than the paper's" if len(names) == 1 else "are other splits than the paper's"
        notes = (f"mean*: {' and '.join(names)} {said}, whose v1.0 has no public answers.", *notes)
    return Table(
        group,
        datasets,
        tuple(run.model for run in runs),
        values,
        means,
        notes,
        tuple(name for name in datasets if any(name in _asked(run) for run in runs)),
        reasons,
        frozenset(best),
        _chance(runs, datasets),
    )


def _chance(runs: Sequence[Run], datasets: Sequence[str]) -> dict[str, float]:
    """What uniform guessing scores (0 to 100), where the runs say it and agree."""
    found = {}
    for name in datasets:
        entries = [run.benchmarks[name] for run in runs if run.normalised(name) is not None]
        guessed = [((entry.get("chance") or {}).get("overall"), entry["scale"]) for entry in entries]
        values = {100 * float(value) / scale for value, scale in guessed if value is not None}
        if len(values) == 1:
            found[name] = float(*values)
    return found
