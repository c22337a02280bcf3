"""A few answers of each ability, kept with their pictures, so that a report needs nothing but the run."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..images import thumbnail
from ..tasks.prompts import is_blank, options
from ..tasks.questions import Asked, Task
from ..tasks.registry import OFFSET, Benchmark

PER_ABILITY = 3


def chosen(benchmark: Benchmark, asked: Sequence[Asked]) -> list[int]:
    """Places of the sampled questions: the first few of each ability by the hash of their index.

    The choice knows nothing of the answers, so it is the same for every model.
    """
    groups: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for place, item in enumerate(asked):
        if benchmark.circular and int(item.index) >= OFFSET and str(item.index) != item.unit:
            continue  # rotations repeat the question
        rank = hashlib.sha256(f"{benchmark.dataset}/{item.index}".encode()).hexdigest()
        groups[item.ability].append((rank, place))
    return [place for name in sorted(groups) for _, place in sorted(groups[name])[:PER_ABILITY]]


def sample_records(task: Task, answers: Sequence[str], hits: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """The sampled questions as in `answer_records`, each with its picture (data URI)."""
    records = answer_records(task, answers, hits)
    return [
        {**records[place], "image": thumbnail(task.asked[place].question.image)}
        for place in chosen(task.benchmark, task.asked)
    ]


def answer_records(task: Task, answers: Sequence[str], hits: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Every question with its unit, ability, options, right answer, prediction, hit (0 to 1, None: nobody says)."""
    rows = task.rows()
    return [
        {
            "index": str(item.index),
            "unit": item.unit,
            "ability": item.ability,
            "question": str(rows[item.place]["question"]),
            "options": options(rows[item.place]) if task.benchmark.kind == "mcq" else {},
            "answer": "" if is_blank(rows[item.place].get("answer")) else str(rows[item.place]["answer"]),
            "prediction": text,
            "hit": hits.get(str(item.index)),
        }
        for item, text in zip(task.asked, answers, strict=True)
    ]
