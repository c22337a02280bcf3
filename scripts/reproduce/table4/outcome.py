"""What evaluated runs say of a table: a row a method, the paper's beneath it, methods held against each other."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moslora_xtuner.errors import DataError, UsageError
from moslora_xtuner.eval.report import group_table, methods, paired_differences
from moslora_xtuner.eval.report.formats import Grid
from moslora_xtuner.eval.report.paired_differences import Gap
from moslora_xtuner.eval.results import bootstrap, scores, seeds
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.results.seeds import Method, Spread
from moslora_xtuner.eval.tasks.registry import GROUPS
from moslora_xtuner.training.artifacts import ADAPTERS, TrainingRecord
from moslora_xtuner.training.record import RUN
from reproduce.table4.catalogue import ROWS_OF_TABLE4, WHOLE, Table, Trained, by_name

NOTHING = "–"
PRINTED = "paper: "
ONE_RUN = "The paper's figures are of one run each, of four beams, one question at a time, with dropout on."
GREEDY = "Here answers are greedy, the paper's are of four beams: near each other, and not the same."
SMALL = "Made-up questions: the paper's figures are not of them, and stand nowhere here."
COSTS = "Hours are of one training, GiB its peak: of a GPU, without one of the process."
SPREAD = "Mean and standard deviation over the seeds."


@dataclass(frozen=True)
class Cost:
    """Of a training: weights that were trained, hours of a training that nothing interrupted, GiB at its peak."""

    trained: int
    hours: float | None
    gib: float | None


@dataclass(frozen=True)
class Outcome:
    """The evaluated runs of a study by training, all asked one group of benchmarks; what the trainings cost."""

    group: str
    runs: Mapping[Trained, Run]
    costs: Mapping[Trained, Cost] = field(default_factory=dict)

    @classmethod
    def read(cls, folders: Sequence[Path], group: str, trainings: Path | None = None) -> Outcome:
        """From `moslora eval`'s folders, and the folder that holds the trainings.

        Raises:
            DataError: a folder is no evaluated run, or not of this group.
            UsageError: a run is not called as those of the script are, or two are called alike.
        """
        found: dict[Trained, Run] = {}
        for run in map(scores.read, folders):
            which = by_name(run.model)
            if which is None or which in found:
                raise UsageError(f"{run.folder} is of {run.model!r}: give runs of reproduce_table4.sh, each once")
            if not set(GROUPS[group]) & run.benchmarks.keys():
                raise DataError(f"{run.folder} holds no score of {group}: evaluate it with --benchmarks {group}")
            found[which] = run
        costs = {} if trainings is None else {which: cost_of(trainings / which.key) for which in found}
        return cls(group, found, {which: cost for which, cost in costs.items() if cost is not None})

    def method(self, recipe: str, part: float = WHOLE) -> Method | None:
        """The seeds of a method on a part of the questions; None where there is none."""
        mine = sorted((run for run in self.runs if (run.recipe, run.part) == (recipe, part)), key=lambda run: run.seed)
        return Method(mine[0].method, tuple(self.runs[run] for run in mine)) if mine else None

    def gap(self, one: Method, other: Method) -> Gap:
        """The difference of two methods' means, over questions and, where there are several, seeds."""
        runs = [*other.runs, *one.runs]
        outcomes = {run.model: bootstrap.load_all(run.folder, run.benchmarks, GROUPS[self.group]) for run in runs}
        table, base = group_table.build(runs, self.group), other.runs[0]
        if one.several or other.several:
            return next(iter(methods.gaps(table, runs, base, outcomes).values()))[-1]
        return paired_differences.gaps(runs, base, table.datasets, outcomes)[one.runs[0].model][-1]

    @property
    def several(self) -> bool:
        """Whether there is more than one seed."""
        return len({run.seed for run in self.runs}) > 1

    def method_note(self) -> list[str]:
        """How differences are computed."""
        return [methods.METHOD if self.several else paired_differences.METHOD]

    def notes(self) -> list[str]:
        """What is to be known of all figures."""
        theirs = {"small-worlds": [SMALL], "commonsense-greedy": [ONE_RUN, GREEDY]}.get(self.group, [ONE_RUN])
        asked = group_table.build(list(self.runs.values()), self.group).notes  # what was asked in part, say
        return [*([SPREAD] if self.several else []), *theirs, *asked]


def cost_of(training: Path) -> Cost | None:
    """What a training's folder says that it cost; None where it is not there any more."""
    if not (training / ADAPTERS).is_dir():
        return None
    record = TrainingRecord.read(training / ADAPTERS)
    starts = len(json.loads((training / RUN).read_text(encoding="utf-8"))["earlier"]) + 1
    hours = record.seconds / 3600 if record.seconds and starts == 1 else None
    logs = [line for file in training.glob("*/vis_data/scalars.json") for line in file.read_text().splitlines()]
    peaks = [row["memory"] for row in map(json.loads, logs) if row.get("memory")]
    return Cost(sum(record.trainable.values()), hours, max(peaks) / 1024 if peaks else None)


def grid(outcome: Outcome, table: Table) -> Grid:
    """A row a method and, where the paper's questions were asked, beneath it what the paper prints."""
    datasets, rows = GROUPS[outcome.group], []
    for recipe in (*table.printed, *table.further):
        found = outcome.method(recipe)
        if found is None:
            continue
        cells = [cell(seeds.score(found, name)) for name in datasets]
        costs = [cost for run, cost in outcome.costs.items() if (run.recipe, run.part) == (recipe, WHOLE)]
        rows.append([found.name, str(len(found.runs)), *cells, cell(seeds.mean(found, datasets)), *cost_cells(costs)])
        if outcome.group != "small-worlds" and recipe in table.printed:
            rows.append(paper_row(recipe, found.name, table))
    header = ["method", "seeds", *map(scores.label, datasets), "mean", "trained", "hours", "GiB"]
    pairs = said(outcome, table)
    method = outcome.method_note() if pairs else []
    return Grid(header, rows, table.title, [*outcome.notes(), *cost_notes(outcome), *method, *pairs])


def paper_row(recipe: str, name: str, table: Table) -> list[str]:
    """What the paper prints of a method: all cells in Table 4, of other tables the mean."""
    mean, row = table.printed.get(recipe), ROWS_OF_TABLE4.get(recipe)
    printed = NOTHING if mean is None else mean if isinstance(mean, str) else f"{mean:.1f}"
    if row is None:
        return [f"{PRINTED}{name}", NOTHING, *[NOTHING] * 8, printed, *[NOTHING] * 3]
    cells = [f"{value:.1f}" for value in row.values]
    return [f"{PRINTED}{name}", "1", *cells, printed, f"{row.params:g}M", f"{row.hours:g}", str(row.gigabytes)]


def cell(spread: Spread | None) -> str:
    """A mean over seeds with its deviation."""
    if spread is None:
        return NOTHING
    return f"{spread.mean:.1f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.1f}")


def cost_cells(costs: Sequence[Cost]) -> list[str]:
    """Weights, hours and memory: of the hours the mean over the seeds that nothing interrupted."""
    if not costs:
        return [NOTHING] * 3
    hours = [cost.hours for cost in costs if cost.hours is not None]
    peaks = [cost.gib for cost in costs if cost.gib is not None]
    spent = f"{statistics.fmean(hours):.2g}" if hours else NOTHING
    return [f"{costs[0].trained:,}", spent, f"{max(peaks):.1f}" if peaks else NOTHING]


def cost_notes(outcome: Outcome) -> list[str]:
    """What hours and memory are, and which trainings have no hours."""
    broken = [run.name for run, cost in outcome.costs.items() if cost.hours is None]
    without = [f"No hours of {'; '.join(broken)}: interrupted and taken up again."] if broken else []
    return [COSTS, *without] if outcome.costs else []


def said(outcome: Outcome, table: Table) -> list[str]:
    """Each pair of the table in a sentence: the difference here, and the paper's."""
    lines = []
    for one, other in table.pairs:
        ours, theirs = outcome.method(one), outcome.method(other)
        if ours is not None and theirs is not None:
            printed = [table.printed.get(recipe) for recipe in (one, other)]
            lines.append(sentence(outcome, ours, theirs, *printed))
    return lines


def sentence(outcome: Outcome, one: Method, other: Method, *printed: float | str | None) -> str:
    """The difference of two methods, and of what the paper prints of them."""
    gap = outcome.gap(one, other)
    text = f"{one.name} minus {other.name}: {gap.text}"
    if gap.reason:
        text += f" ({gap.reason})"
    numbers = [value for value in printed if isinstance(value, float)]
    if outcome.group != "small-worlds" and len(numbers) == 2:
        text += f"; in the paper {numbers[0] - numbers[1]:+.1f}"
    return f"{text}."
