"""The ability radar drawn in the manner of the paper's Figure 5: six axes, English and Chinese side by side.

Each figure says how its axes are scaled (`radar_scale.py`); raw percentages stand at the axes, of each model or, of
many, of the best with that model's sign, and of all in the table below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..results.scores import Run
from ..tasks.registry import ABILITIES
from .radar_scale import EACH, Panel, Scale, caption, models_of, panels, scaled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers; markers and dashes tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B8A800")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", "-", "--", "-.", ":")
SIGNS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")
"""The markers as letters."""
PANEL_INCHES = 5.6
PAGE_INCHES = 4.0  # narrow, so that the letters are still large where the page shrinks the picture to a telephone
FILES = ("radar", "radar_absolute")
KINDS = ("png", "svg")


def draw(shown: Sequence[Panel], *, absolute: bool = False) -> Figure:
    """Draw panels side by side: polar axes above, the raw percentages below. Needs at least one panel."""
    models = models_of(shown)
    width = PANEL_INCHES * len(shown)
    legend, below = _legend_inches(models, width), 0.3 * (len(models) + 1)
    height = legend + 5.35 + below + 0.75
    figure = _figure(width, height)
    handles: list[Any] = []
    for place, panel in enumerate(shown):
        left = place * PANEL_INCHES
        axes = _box(figure, (left + 0.75, below + 1.4, PANEL_INCHES - 1.5, 3.9), polar=True)
        handles = _radar(axes, panel, models, scaled(panel, shown, absolute)) or handles
        _raw_table(_box(figure, (left + 0.2, 0.7, PANEL_INCHES - 0.4, below)), panel, models)
    _legend(figure, handles, models, width)
    words = caption(shown, absolute=absolute)
    figure.text(0.5, 0.12 / height, words, ha="center", va="bottom", fontsize=9, color="#444444")
    return figure


def draw_for_page(panel: Panel, shown: Sequence[Panel], *, absolute: bool = False) -> Figure:
    """Draw one panel, readable 320 pixels wide; the page has its caption and its numbers in letters of its own.

    `shown`: all panels of the page, which share the radial range.
    """
    models = models_of([panel])
    legend = _legend_inches(models, PAGE_INCHES)
    figure = _figure(PAGE_INCHES, legend + 3.75)
    axes = _box(figure, (0.85, 0.6, PAGE_INCHES - 1.7, 2.3), polar=True)
    _legend(figure, _radar(axes, panel, models_of(shown), scaled(panel, shown, absolute)), models, PAGE_INCHES)
    return figure


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
    return 0.25 * math.ceil(len(models) / _legend_columns(models, width)) + 0.1


def _legend(figure: Figure, handles: Sequence[Any], models: Sequence[str], width: float) -> None:
    columns = _legend_columns(models, width)
    figure.legend(handles=handles, loc="upper center", ncols=columns, frameon=False, fontsize=11)


def _box(figure: Figure, inches: tuple[float, float, float, float], *, polar: bool = False) -> Any:
    """Axes at (left, bottom, width, height) in inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = inches
    place = (left / width, bottom / height, wide / width, high / height)
    return figure.add_axes(place, projection="polar" if polar else None)


def _radar(axes: Any, panel: Panel, models: Sequence[str], scale: Scale) -> list[Any]:
    angles = [2 * math.pi * place / len(ABILITIES) for place in range(len(ABILITIES))]
    axes.set_theta_offset(math.pi / 2)
    axes.set_theta_direction(-1)
    handles = []
    for model, values in scale.values.items():
        place = models.index(model) % len(COLOURS)
        (line,) = axes.plot(
            [*angles, angles[0]],
            drawn := [scale.place(value) for value in (*values, values[0])],
            color=COLOURS[place],
            linestyle=DASHES[place],
            marker=MARKERS[place],
            linewidth=2,
            markersize=5,
            label=model,
            clip_on=False,
            zorder=3,
        )
        axes.fill([*angles, angles[0]], drawn, color=COLOURS[place], alpha=0.07)
        handles.append(line)
    axes.set_xticks(angles, [""] * len(angles))
    axes.set_ylim(scale.low, scale.high)
    for name, angle, column in zip(ABILITIES, angles, zip(*panel.values.values(), strict=True), strict=True):
        _axis_label(axes, name, angle, dict(zip(panel.values, column, strict=True)), models, scale.high)
    axes.set_yticks(
        [scale.place(tick) for tick in scale.ticks], list(scale.ticks.values()), fontsize=9, color="#444444"
    )
    for tick in axes.get_yticklabels():
        tick.set_bbox({"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6})
    axes.set_rlabel_position(30)
    axes.grid(color="#cccccc", linewidth=0.8)
    axes.spines["polar"].set_color("#999999")
    axes.set_title(panel.title, fontsize=13, pad=44, fontweight="bold")
    return handles


def _axis_label(
    axes: Any, name: str, angle: float, values: dict[str, float], models: Sequence[str], rim: float
) -> None:
    """The ability's name at the rim, and the values: in a line above and below the circle, else one under another."""
    from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea, VPacker

    side, height = math.sin(angle), math.cos(angle)  # clockwise from the top
    middle = abs(side) < 0.1
    lines: list[Any] = [
        HPacker(
            children=[
                *(TextArea(SIGNS[place], textprops={"color": COLOURS[place], "fontsize": 10}) for place in places),
                TextArea(_padded(value, values) if not middle else f"{value:.1f}", textprops={"fontsize": 11}),
            ],
            align="baseline", pad=0, sep=2,
        )
        for places, value in _at_axis(values, models)
    ]  # fmt: skip
    numbers = HPacker(children=lines, align="baseline", pad=0, sep=7) if middle else None
    align: Literal["center", "left", "right"] = "center" if middle else "left" if side > 0 else "right"
    title = TextArea(name, textprops={"fontsize": 13})
    box = VPacker(children=[title, *([numbers] if numbers else lines)], align=align, pad=0, sep=2)
    anchor = (0.5, 0.0 if height > 0 else 1.0) if middle else (0.0 if side > 0 else 1.0, 0.5)
    away = (0, 7 * height) if middle else (10 * math.copysign(1, side), 0)
    axes.add_artist(
        AnnotationBbox(
            box, (angle, rim), xybox=away, xycoords="data", boxcoords="offset points", box_alignment=anchor,
            frameon=False, pad=0, annotation_clip=False,
        )
    )  # fmt: skip


def _padded(value: float, values: dict[str, float]) -> str:
    """The value, as wide as the widest beside it: a figure space is as wide as a digit."""
    width = max(len(f"{other:.1f}") for other in values.values())
    return f"{value:.1f}".rjust(width, "\u2007")


def _at_axis(values: dict[str, float], models: Sequence[str]) -> list[tuple[list[int], float]]:
    """What stands at an axis: each model's place among the colours and its value, or the best and who have it."""
    places = {model: models.index(model) % len(COLOURS) for model in values}
    if len(models) <= EACH:
        return [([places[model]], value) for model, value in values.items()]
    best = max(values.values())
    have = [places[model] for model, value in values.items() if value == best]
    return [(have[:EACH], best)]


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


def write(runs: Sequence[Run], datasets: Sequence[str], folder: Path) -> list[Path]:
    """Write radar (normalised) and radar_absolute, each as .png and .svg; [] where no run has the six abilities."""
    shown = panels(runs, datasets)
    if not shown:
        return []
    return [save(draw(shown, absolute=name == FILES[1]), folder / f"{name}.{kind}") for name in FILES for kind in KINDS]
