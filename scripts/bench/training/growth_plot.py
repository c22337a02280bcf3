"""The picture of `bench_growth.py`: time and peak memory of a step, for each thing that grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .titles import TITLES

COLOURS = {"stock_lora": "#7f7f7f", "moslora": "#d98c00", "moslora_fast": "#1f5fa8"}
MARKS = {"stock_lora": "o", "moslora": "s", "moslora_fast": "D"}
XLABELS = {"tokens": "tokens of the longest record", "rank": "rank", "records": "records of a micro-batch"}


def plot(found: dict[str, Any], file: Path) -> None:
    """Two rows of panels, seconds and GiB, from zero on."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator

    figure, panels = pyplot.subplots(2, len(XLABELS), figsize=(10, 5.4), sharey="row", layout="constrained")
    for column, grows in enumerate(XLABELS):
        rows = [row for row in found["rows"] if row["grows"] == grows]
        values = sorted({row["value"] for row in rows})
        for line, (key, scale) in enumerate((("step_s", 1.0), ("peak_bytes", 2.0**30))):
            panel = panels[line][column]
            for name, colour in COLOURS.items():
                there = {row["value"]: row[key] / scale for row in rows if row["variant"] == name}
                heights = [there[value] for value in values]
                panel.plot(values, heights, color=colour, marker=MARKS[name], markersize=4, label=TITLES[name])
            panel.set_xscale("log", base=2)
            panel.set_xticks(values, [str(value) for value in values])
            panel.xaxis.set_minor_locator(NullLocator())
            panel.grid(color="#e5e5e5", linewidth=0.8)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_ylim(bottom=0)
        panels[1][column].set_xlabel(XLABELS[grows])
    panels[0][0].set_ylabel("a step, s")
    panels[1][0].set_ylabel("peak memory, GiB")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(COLOURS), frameon=False)
    figure.savefig(file, dpi=130, metadata={"Software": None})
    pyplot.close(figure)
