"""The ability radar in the manner of the paper's Figure 5: six axes, English and Chinese side by side.

Normalised, each axis is score / best score on that axis among the models drawn, so the best is at 1.0, and the
radial range starts below the lowest point, so that differences show. Absolute, each axis is the score from 0 to
100 per cent. Each figure says which it is; the raw percentages stand at the axes (best) and in the table below (all).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..results.scores import Run
from ..tasks.registry import ABILITIES, BENCHMARKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers; markers and dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
PANEL_INCHES = 5.6
PAGE_INCHES = 4.0  # narrow, so that the letters are still large where the page shrinks the picture to a telephone
FILES = ("radar", "radar_absolute")
KINDS = ("png", "svg")
NAMES = {"en": "English", "cn": "Chinese"}


@dataclass(frozen=True)
class Panel:
    """One radar: a title, and for each model its six abilities in per cent, in the order of ABILITIES."""

    dataset: str
    title: str
    values: dict[str, tuple[float, ...]]


def panels(runs: Sequence[Run], group: str) -> list[Panel]:
    """English and Chinese radars of a group, with the runs that have all six abilities there."""
    found = []
    for dataset, benchmark in BENCHMARKS.items():
        if benchmark.group != group or not benchmark.circular:
            continue
        values = {}
        for run in runs:
            abilities = run.benchmarks.get(dataset, {}).get("abilities", {})
            if all(name in abilities for name in ABILITIES):
                values[run.model] = tuple(float(abilities[name]) for name in ABILITIES)
        if values:
            found.append(Panel(dataset, f"{NAMES[benchmark.language]} ({benchmark.label})", values))
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
    if absolute:
        return "Each axis: score in per cent (centre = 0, rim = 100).\nAt the axes: the best score."
    low = lower_end(shown)
    return (
        f"Each axis: score / best score of the models shown (best = 1.0; centre = {low:.1f}).\n"
        "At the axes: the best raw score."
    )


def draw(shown: Sequence[Panel], *, absolute: bool = False) -> Figure:
    """Draw panels side by side: polar axes above, the raw percentages below. Needs at least one panel."""
    models = _models(shown)
    width = PANEL_INCHES * len(shown)
    legend, below = _legend_inches(models, width), 0.3 * (len(models) + 1)
    height = legend + 5.35 + below + 0.75
    figure = _figure(width, height)
    handles: list[Any] = []
    for place, panel in enumerate(shown):
        left = place * PANEL_INCHES
        axes = _box(figure, (left + 0.75, below + 1.4, PANEL_INCHES - 1.5, 3.9), polar=True)
        handles = _radar(axes, panel, models, _scaled(panel, shown, absolute)) or handles
        _raw_table(_box(figure, (left + 0.2, 0.7, PANEL_INCHES - 0.4, below)), panel, models)
    _legend(figure, handles, models, width)
    words = caption(shown, absolute=absolute)
    figure.text(0.5, 0.12 / height, words, ha="center", va="bottom", fontsize=9, color="#444444")
    return figure


def draw_for_page(panel: Panel, shown: Sequence[Panel], *, absolute: bool = False) -> Figure:
    """Draw one panel, readable 320 pixels wide; the page has its caption and its numbers in letters of its own.

    `shown`: all panels of the page, which share the radial range.
    """
    models = _models([panel])
    legend = _legend_inches(models, PAGE_INCHES)
    figure = _figure(PAGE_INCHES, legend + 4.1)
    axes = _box(figure, (0.8, 0.65, PAGE_INCHES - 1.6, 2.6), polar=True)
    _legend(figure, _radar(axes, panel, _models(shown), _scaled(panel, shown, absolute)), models, PAGE_INCHES)
    return figure


@dataclass(frozen=True)
class _Scale:
    """What is drawn: the values, the range of the radial axis and its ticks."""

    values: dict[str, tuple[float, ...]]
    low: float
    high: float
    ticks: dict[float, str]


def _scaled(panel: Panel, shown: Sequence[Panel], absolute: bool) -> _Scale:
    if absolute:
        return _Scale(panel.values, 0.0, 100.0, {float(tick): str(tick) for tick in (20, 40, 60, 80, 100)})
    low = lower_end(shown)
    step = 2 if low < 0.55 else 1  # of ten: low is a round tenth
    ticks = [tenth / 10 for tenth in range(10, round(10 * low), -step)]
    return _Scale(normalise(panel), low, 1.0, {tick: f"{tick:.1f}" for tick in ticks})


def _models(shown: Sequence[Panel]) -> list[str]:
    return list(dict.fromkeys(model for panel in shown for model in panel.values))


def _figure(width: float, height: float) -> Figure:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), dpi=160)


def _legend_columns(models: Sequence[str], width: float) -> int:
    """As many names in a line as fit: a letter of 11 points is about 0.09 inch wide, line and gaps 0.75."""
    widest = 0.75 + 0.09 * max(len(model) for model in models)
    return max(1, min(4, len(models), int(width / widest)))


def _legend_inches(models: Sequence[str], width: float) -> float:
    return 0.28 * math.ceil(len(models) / _legend_columns(models, width)) + 0.1


def _legend(figure: Figure, handles: Sequence[Any], models: Sequence[str], width: float) -> None:
    columns = _legend_columns(models, width)
    figure.legend(handles=handles, loc="upper center", ncols=columns, frameon=False, fontsize=11)


def _box(figure: Figure, inches: tuple[float, float, float, float], *, polar: bool = False) -> Any:
    """Axes at (left, bottom, width, height) in inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = inches
    place = (left / width, bottom / height, wide / width, high / height)
    return figure.add_axes(place, projection="polar" if polar else None)


def _radar(axes: Any, panel: Panel, models: Sequence[str], scale: _Scale) -> list[Any]:
    angles = [2 * math.pi * place / len(ABILITIES) for place in range(len(ABILITIES))]
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    handles = []
    for model, values in scale.values.items():
        place = models.index(model) % len(COLOURS)
        (line,) = axes.plot(
            [*angles, angles[0]],
            [*values, values[0]],
            color=COLOURS[place],
            linestyle=DASHES[place],
            marker=MARKERS[place],
            linewidth=2,
            markersize=5,
            label=model,
            clip_on=False,
            zorder=3,
        )
        axes.fill([*angles, angles[0]], [*values, values[0]], color=COLOURS[place], alpha=0.07)
        handles.append(line)
    best = [max(column) for column in zip(*panel.values.values(), strict=True)]
    labels = [f"{name}\n{top:.1f} %" for name, top in zip(ABILITIES, best, strict=True)]
    axes.set_xticks(angles, labels, fontsize=13)
    axes.tick_params(axis="x", pad=2)
    for tick, angle in zip(axes.get_xticklabels(), angles, strict=True):
        side = math.sin(angle)  # clockwise from the top: right of the middle where positive
        tick.set_ha("center" if abs(side) < 0.1 else "left" if side > 0 else "right")
        height = math.cos(angle)  # two lines: above the rim and below it, else across
        tick.set_va("bottom" if height > 0.9 else "top" if height < -0.9 else "center")
    axes.set_ylim(scale.low, scale.high)
    axes.set_yticks(list(scale.ticks), list(scale.ticks.values()), fontsize=9, color="#555555")
    axes.set_rlabel_position(30)
    axes.grid(color="#cccccc", linewidth=0.8)
    axes.spines["polar"].set_color("#999999")
    axes.set_title(panel.title, fontsize=13, pad=14, fontweight="bold")
    return handles


def _raw_table(axes: Any, panel: Panel, models: Sequence[str]) -> None:
    axes.axis("off")
    rows = [model for model in models if model in panel.values]
    names = [name if len(name) <= 17 else name[:16] + "…" for name in rows]
    cells = [
        [name, *(f"{value:.1f}" for value in panel.values[model])] for name, model in zip(names, rows, strict=True)
    ]
    shown = axes.table(
        cellText=cells,
        colLabels=["raw, %", *ABILITIES],
        cellLoc="center",
        bbox=[0, 0, 1, 1],
        colWidths=[0.28, *[0.12] * len(ABILITIES)],
    )
    shown.auto_set_font_size(False)
    shown.set_fontsize(9.5)
    for (row, column), cell in shown.get_celld().items():
        cell.set_linewidth(0.4)
        cell.set_edgecolor("#bbbbbb")
        if row == 0:
            cell.set_text_props(fontweight="bold")
        elif column == 0:
            cell.set_text_props(color=COLOURS[models.index(rows[row - 1]) % len(COLOURS)], fontweight="bold")


def save(figure: Figure, target: Path) -> Path:
    """Write the figure as PNG or SVG by the target's suffix, the same bytes for the same data; closes it."""
    import matplotlib
    import matplotlib.pyplot as plt

    kind = target.suffix.lstrip(".")
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "moslora", "svg.fonttype": "path"}):
        figure.savefig(target, format=kind, metadata=metadata, facecolor="white")
    plt.close(figure)
    return target


def write(runs: Sequence[Run], group: str, folder: Path) -> list[Path]:
    """Write radar (normalised) and radar_absolute, each as .png and .svg; [] where no run has the six abilities."""
    shown = panels(runs, group)
    if not shown:
        return []
    return [save(draw(shown, absolute=name == FILES[1]), folder / f"{name}.{kind}") for name in FILES for kind in KINDS]
