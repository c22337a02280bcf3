"""Loss curves from training logs: one JSON line a step, {"step": 1, "loss": 2.3, "lr": ...}."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner.atomic import parse_json
from moslora_xtuner.errors import DataError

from .radar import COLOURS, DASHES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """One training: name, steps and losses, and the last line of its log for whatever else it says."""

    name: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    last: dict[str, Any]

    def smooth(self) -> list[float]:
        """The running mean over about a twentieth of the training."""
        window = max(1, len(self.losses) // 20)
        return [
            sum(self.losses[max(0, end - window) : end]) / min(window, end) for end in range(1, len(self.losses) + 1)
        ]

    def ends(self) -> tuple[float, float]:
        """The mean loss of the first and of the last twentieth."""
        window = max(1, len(self.losses) // 20)
        return sum(self.losses[:window]) / window, sum(self.losses[-window:]) / window


def read(name: str, path: Path) -> Curve:
    """Read one training log; lines without a loss (evaluation, notes) are passed over.

    Raises DataError when the file is missing, not JSON lines, or holds no finite loss.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist: give the JSON-lines log of training {name!r}.")
    points: dict[int, float] = {}
    last: dict[str, Any] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
            if "loss" not in record:
                continue
            step, loss = int(record["step"]), float(record["loss"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number} is no training record ({error!r}).") from error
        if math.isfinite(loss):
            points[step] = loss  # a resumed training repeats steps: the later line counts
            last = record
    if not points:
        raise DataError(f"{path} holds no loss: the training of {name!r} left no curve.")
    steps = tuple(sorted(points))
    return Curve(name, steps, tuple(points[step] for step in steps), last)


def read_all(training: Mapping[str, Path]) -> list[Curve]:
    """Read several logs, name to path."""
    return [read(name, Path(path)) for name, path in training.items()]


def draw(curves: Sequence[Curve], colours: Mapping[str, int]) -> Figure:
    """Loss over steps: the running mean as a line, every value faint behind it.

    `colours`: the model's place in the other figures, so that a model keeps its colour.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), dpi=150, layout="constrained")
    for number, curve in enumerate(curves):
        place = colours.get(curve.name, number) % len(COLOURS)
        axes.plot(curve.steps, curve.losses, color=COLOURS[place], alpha=0.2, linewidth=0.8)
        axes.plot(
            curve.steps,
            curve.smooth(),
            color=COLOURS[place],
            linestyle=DASHES[place],
            linewidth=1.8,
            label=curve.name,
        )
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
