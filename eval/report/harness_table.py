"""What lm-evaluation-harness says beside our scores: a table of its own, with what is not to be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..results import harness_scores, scores
from ..results.harness_scores import NOTE, HarnessScore, set_of
from ..results.scores import Run
from ..tasks.registry import BENCHMARKS
from .formats import Grid, as_terminal

TITLE = "Beside lm-evaluation-harness (log-likelihood; other data, not comparable)"
_HEADER = ["benchmark", "ours", "lm-eval acc", "lm-eval acc_norm", "its task", "its questions", "its data"]


def pairs(runs: Sequence[Run]) -> list[tuple[Run, str, HarnessScore]]:
    """Each run's benchmarks that the harness has a figure beside. Raises DataError for a file that cannot be read."""
    found = []
    for run in runs:
        said = harness_scores.read(run.folder, run.manifest.model_sha256)
        for dataset in BENCHMARKS:
            if dataset in run.benchmarks and (score := said.get(set_of(BENCHMARKS[dataset]))) is not None:
                found.append((run, dataset, score))
    return found


def grid(runs: Sequence[Run]) -> Grid | None:
    """A row a benchmark and model; None where no run has figures of the harness."""
    if not (found := pairs(runs)):
        return None
    several = len({run.model for run, _, _ in found}) > 1
    rows = []
    for run, dataset, score in found:
        name = f"{run.model}: {scores.label(dataset)}" if several else scores.label(dataset)
        ours = run.normalised(dataset)
        rows.append([
            name,
            "" if ours is None else f"{ours:.1f}",
            _share(score, "acc"),
            _share(score, "acc_norm"),
            score.task,
            f"{score.questions}",
            score.data,
        ])  # fmt: skip
    versions = ", ".join(sorted({score.version for _, _, score in found}))
    return Grid(_HEADER, rows, TITLE, [f"{NOTE} In brackets: standard error. Version {versions}."])


def terminal(folders: Sequence[Path]) -> str:
    """The table of run folders as a terminal shows it; "" where there is none."""
    found = grid([scores.read(folder) for folder in folders])
    return "" if found is None else as_terminal(found)


def as_json(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The same for programs, in whole precision."""
    if not (found := pairs(runs)):
        return None
    rows = [
        {
            "model": run.model, "benchmark": dataset, "ours": run.normalised(dataset), "task": score.task,
            "metrics": {name: 100 * value for name, value in score.metrics.items()}, "questions": score.questions,
            "data": score.data, "version": score.version, "limit": score.limit,
        }
        for run, dataset, score in found
    ]  # fmt: skip
    return {"rows": rows, "comparable_with_scores": False, "note": NOTE}


def _share(score: HarnessScore, metric: str) -> str:
    if metric not in score.metrics:
        return "-"
    spread = score.metrics.get(f"{metric}_stderr")
    return f"{100 * score.metrics[metric]:.1f}" + ("" if spread is None else f" ({100 * spread:.1f})")
