"""lm_eval.json: what lm-evaluation-harness's own tasks say of a model, apart from its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_json, read_json
from moslora_xtuner.errors import DataError
from moslora_xtuner.formats import FORMAT, unreadable

from ..tasks.registry import Benchmark
from .run_folder import HARNESS

OWN_TASKS = {
    "ARC-Easy": "arc_easy",
    "openbookqa": "openbookqa",
    "social_i_qa": "social_iqa",
    "ARC-Challenge": "arc_challenge",
    "winogrande": "winogrande",
    "piqa": "piqa",
    "boolq": "boolq",
    "hellaswag": "hellaswag",
}
"""LLM-Adapters' names of the eight sets to the harness's tasks of the same origin."""
NOTE = (
    "lm-evaluation-harness takes the option whose text is the most likely (acc; acc_norm: a character), on data and "
    "prompts of its own, without a chat form: these figures are not comparable with the scores, nor with the "
    "paper's Table 4."
)


@dataclass(frozen=True)
class HarnessScore:
    """One task's result.

    Attributes:
        task: the harness's name of it.
        key: of all that the result depends on.
        metrics: by name (`acc`, `acc_norm`, `acc_stderr`), 0 to 1.
        questions: how many were asked.
        data: where they came from, and which part.
        version: of the harness.
        limit: only that many were asked; None: all.
        results: what the harness itself says, as it says it.
    """

    task: str
    key: str
    metrics: Mapping[str, float]
    questions: int
    data: str
    version: str
    limit: int | None
    results: Mapping[str, Any]


def set_of(benchmark: Benchmark) -> str:
    """The set that a benchmark asks, greedily or with beams: LLM-Adapters' name of it, or that of a small world."""
    return benchmark.file or benchmark.dataset


def read(folder: Path, model_sha256: str | None) -> dict[str, HarnessScore]:
    """A run folder's results by set; none where there are none, or they are another model's.

    Raises DataError for a file that cannot be read.
    """
    path = folder / HARNESS
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        if (why := unreadable(content)) is not None:
            raise ValueError(why)
        if content["model_sha256"] != model_sha256:
            return {}
        return {name: HarnessScore(**entry) for name, entry in content["sets"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise DataError(f"{path} cannot be read ({fault}): move it away and evaluate with --kit again") from fault


def write(folder: Path, model: str, model_sha256: str, found: Mapping[str, HarnessScore]) -> Path:
    """Write the file whole or not at all."""
    content = {
        "format": FORMAT,
        "model": model,
        "model_sha256": model_sha256,
        "comparable_with_scores": False,
        "note": NOTE,
        "sets": {name: asdict(score) for name, score in found.items()},
    }
    return atomic_json(folder / HARNESS, content)
