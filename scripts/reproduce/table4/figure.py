"""Figure 4: scores by the share of the training questions, a line a method, a band over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moslora_xtuner.eval.report.formats import Grid
from moslora_xtuner.eval.results import comparability, scores
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.results.seeds import spread
from moslora_xtuner.eval.tasks.registry import GROUPS
from reproduce.table4.catalogue import LINES, NAMES, ROWS_OF_TABLE4, WHOLE
from reproduce.table4.outcome import NOTHING, Outcome, cell, sentence

COLOURS = {"lora": "#c2570c", "moslora": "#1a4d8f"}
MARKS = {"lora": "s", "moslora": "o"}
BESIDE = 4.0
"""Per cent by which the paper's points stand off ours, which they would hide."""
TEXT_OF_PAPER = (50.0, 83.6)
"""Per cent of the questions, and what the text says that MoSLoRA scores with them."""
CONTRADICTION = (
    "The paper gives figure 4 as a picture. Its text says 83.6 for MoSLoRA with 50 %, 1.8 above LoRA with all, which "
    "matches neither Table 4's mean of LoRA (82.8) nor its HellaSwag (93.5)."
)
DRAWN = "The questions of a part are drawn by the run's seed, the same for both methods, smaller parts within larger."

Score = Callable[[Run], float | None]


def columns(group: str) -> dict[str, Score]:
    """What is drawn: the mean of the eight, and HellaSwag, of which the paper's figure is."""
    last = GROUPS[group][-1]
    return {
        "mean of the eight sets": lambda run: comparability.mean(run, GROUPS[group]).value,
        scores.label(last).replace("HellaS", "HellaSwag"): lambda run: run.normalised(last),
    }


def points(outcome: Outcome, recipe: str, score: Score) -> dict[float, list[float]]:
    """The seeds' scores of a method by part, rising; a run without a score is left out."""
    found: dict[float, list[float]] = {}
    for run, evaluated in sorted(outcome.runs.items(), key=lambda item: (item[0].part, item[0].seed)):
        if run.recipe == recipe and (value := score(evaluated)) is not None:
            found.setdefault(run.part, []).append(value)
    return found


def parts(outcome: Outcome) -> list[float]:
    """Of all runs, rising."""
    return sorted({run.part for run in outcome.runs})


def grid(outcome: Outcome) -> Grid:
    """A row a part: seeds, and each method's mean of the eight and HellaSwag; the differences beneath."""
    found = columns(outcome.group)
    header = ["% of the questions", *(f"{NAMES[recipe]}, {name}" for name in found for recipe in LINES), "seeds"]
    rows, notes = [], []
    for part in parts(outcome):
        values = [points(outcome, recipe, score).get(part, []) for score in found.values() for recipe in LINES]
        cells = [cell(spread(some)) if some else NOTHING for some in values]
        rows.append([f"{part:g}", *cells, str(max(map(len, values)))])
        lora, moslora = (outcome.method(recipe, part) for recipe in LINES)
        if lora is not None and moslora is not None:
            printed = [ROWS_OF_TABLE4[recipe].mean for recipe in reversed(LINES)] if part == WHOLE else []
            notes.append(sentence(outcome, moslora, lora, *printed))
    theirs = [] if outcome.group == "small-worlds" else [CONTRADICTION]
    return Grid(
        header,
        rows,
        "Figure 4: shares of the training questions",
        [*outcome.notes(), DRAWN, *theirs, *outcome.method_note(), *notes],
    )


def as_json(outcome: Outcome) -> list[dict[str, Any]]:
    """Every run's scores in whole precision."""
    found = columns(outcome.group)
    return [
        {"method": NAMES[run.recipe], "per_cent": run.part, "seed": run.seed}
        | {name: score(evaluated) for name, score in found.items()}
        for run, evaluated in sorted(outcome.runs.items(), key=lambda item: (item[0].part, item[0].key))
    ]


def draw(outcome: Outcome, path: Path) -> None:
    """The picture: a panel for each score; bands are a standard deviation of the seeds, dots the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = columns(outcome.group)
    figure, panels = pyplot.subplots(1, len(found), figsize=(4.6 * len(found), 4.4), layout="constrained")
    for axes, (name, score) in zip(panels, found.items(), strict=True):
        for recipe in LINES:
            _line(axes, recipe, points(outcome, recipe, score))
        if outcome.group != "small-worlds":
            _papers(axes, mean=score is next(iter(found.values())))
        axes.set_title(name, fontsize=11, loc="left")
        axes.set_xlabel("share of the training questions, per cent")
        axes.set_xticks(parts(outcome), [f"{part:g}" for part in parts(outcome)])
        axes.set_xlim(0, WHOLE + 2 * BESIDE)
        axes.grid(axis="y", color="#e3e6ea", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("right answers, per cent")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def _line(axes: Any, recipe: str, found: dict[float, list[float]]) -> None:
    if not found:
        return
    means = [statistics.fmean(values) for values in found.values()]
    count, colour = max(map(len, found.values())), COLOURS[recipe]
    label = NAMES[recipe] + (f", {count} seeds: mean and standard deviation" if count > 1 else ", one seed")
    axes.plot(list(found), means, color=colour, marker=MARKS[recipe], ms=5, lw=1.8, label=label, zorder=3)
    if count > 1:
        off = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in found.values()]
        low, high = ([mean + sign * by for mean, by in zip(means, off, strict=True)] for sign in (-1, 1))
        axes.fill_between(list(found), low, high, color=colour, alpha=0.15, lw=0, zorder=1)
        for part, values in found.items():
            axes.plot([part] * len(values), values, ".", color=colour, ms=4, alpha=0.45, zorder=2)


def _papers(axes: Any, *, mean: bool) -> None:
    """The paper's points: Table 4's at 100 %, and the one in its text."""
    look = {"ls": "", "mfc": "none", "ms": 9, "mew": 1.4, "zorder": 4}
    for recipe in LINES:
        row = ROWS_OF_TABLE4[recipe]
        value = row.mean if mean else row.values[-1]
        axes.plot(
            [WHOLE + BESIDE], [value], marker="D", color=COLOURS[recipe], label=f"paper, Table 4: {row.name}", **look
        )
    if mean:
        part, value = TEXT_OF_PAPER
        said = f"paper, text: MoSLoRA with {part:g} % (contradicts itself: see the notes)"
        axes.plot([part], [value], marker="*", color=COLOURS["moslora"], label=said, **{**look, "ms": 12})
