"""What a study says: means, differences seed by seed, a rank test, a sentence that claims no more than that."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from scipy.stats import wilcoxon

from moslora_xtuner.data.worlds.forms import FORMS
from moslora_xtuner.eval.results.scores import label
from moslora_xtuner.eval.tasks.registry import GROUPS

METHODS = ("LoRA", "frozen mixer", "MoSLoRA")
LEVEL = 0.05
SETS = GROUPS["small-worlds"]


@dataclass(frozen=True)
class Study:
    """Scores by method, one dictionary a seed in the order of the seeds; costs likewise; how it was done.

    Attributes:
        scores: 0 to 100, by set.
        cpu_seconds: of each training.
        settings: of the trainings.
        base_cpu_seconds: of making the base, nothing where it was given.
    """

    scores: dict[str, list[dict[str, float]]]
    cpu_seconds: dict[str, list[float]]
    settings: dict[str, Any]
    base_cpu_seconds: float | None = None

    def means(self, method: str) -> list[float]:
        """The mean over the eight sets of each seed."""
        return [statistics.mean(row[name] for name in SETS) for row in self.scores[method]]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {**asdict(self), "comparisons": [asdict(found) for found in comparisons(self)]}


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same seeds: `mean` of the differences (second minus first), how often it is above, and p.

    p is that of Wilcoxon's signed-rank test, two-sided, times the number of comparisons (Bonferroni), at most 1.
    """

    first: str
    second: str
    mean: float
    deviation: float
    above: int
    below: int
    seeds: int
    p: float

    def said(self) -> str:
        """In words."""
        seen = f"{self.second} minus {self.first}: {self.mean:+.2f} points a seed on average (± {self.deviation:.2f})"
        count = f"above in {self.above}, below in {self.below} of {self.seeds} seeds, p = {self.p:.3g}"
        return f"{seen}, {count}: {'a difference' if self.p < LEVEL else 'no difference that these seeds can show'}."


def comparisons(study: Study) -> list[Comparison]:
    """Every pair of methods that has the same seeds, two at least."""
    have = [method for method in METHODS if len(study.scores.get(method, ())) > 1]
    pairs = [pair for pair in combinations(have, 2) if len({len(study.scores[method]) for method in pair}) == 1]
    return [compare(*pair, *(study.means(method) for method in pair), tests=len(pairs)) for pair in pairs]


def compare(first: str, second: str, one: list[float], other: list[float], *, tests: int = 1) -> Comparison:
    """Hold two methods' scores against each other, seed by seed."""
    gaps = [b - a for a, b in zip(one, other, strict=True)]
    p = float(wilcoxon(gaps).pvalue) if any(gaps) else 1.0
    return Comparison(
        first, second, statistics.mean(gaps), statistics.stdev(gaps), sum(gap > 0 for gap in gaps),
        sum(gap < 0 for gap in gaps), len(gaps), min(1.0, p * tests),
    )  # fmt: skip


def table(study: Study) -> str:
    """Markdown: mean and standard deviation over the seeds of each set and of the mean, then the comparisons."""
    lines = [
        "| method | seeds | " + " | ".join(label(name) for name in SETS) + " | mean | CPU s |",
        "|---" * (len(SETS) + 4) + "|",
    ]
    drawn = [100 / form.options for form in FORMS.values()]
    cells = [f"{value:.1f}" for value in (*drawn, statistics.mean(drawn))]
    lines.append("| an option drawn | - | " + " | ".join(cells) + " | - |")
    for method, rows in study.scores.items():
        columns = [[row[name] for row in rows] for name in SETS] + [study.means(method)]
        cost = study.cpu_seconds.get(method)
        cells = [_spread(values) for values in columns] + [f"{statistics.mean(cost):.0f}" if cost else "-"]
        lines.append(f"| {method} | {len(rows)} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {found.said()}" for found in comparisons(study))]
    hours = [f"{sum(map(sum, study.cpu_seconds.values())) / 3600:.1f} h the trainings"]
    hours += [f"{study.base_cpu_seconds / 3600:.1f} h the base"] if study.base_cpu_seconds else []
    made = ", ".join(f"{name} {value}" for name, value in study.settings.items())
    lines += [
        "",
        f"Small worlds, greedy answers; {made}. Of one core {', '.join(hours)}. "
        "What holds here need not hold for large models and real questions.",
    ]
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def figure(study: Study, path: Path) -> None:
    """Each seed's mean as a dot, a line through the same seed of all methods, and the methods' means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    have = [method for method in METHODS if study.scores.get(method)]
    drawn, axes = pyplot.subplots(figsize=(6, 4))
    for seed in range(min(len(study.scores[method]) for method in have)):
        axes.plot(have, [study.means(method)[seed] for method in have], color="#b8c0cc", marker="o", ms=4, lw=0.8)
    means = [statistics.mean(study.means(method)) for method in have]
    axes.plot(have, means, color="#1a4d8f", marker="_", ms=28, lw=0, mew=2.5)
    axes.set_ylabel("mean of the eight sets, per cent")
    axes.set_title(f"{study.settings['seeds']} seeds; a line is one seed, a bar the mean", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    drawn.tight_layout()
    drawn.savefig(path, dpi=150)
    pyplot.close(drawn)
