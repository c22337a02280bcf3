"""A model's answers to a benchmark: from disk where they are, else asked for, and on disk before anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moslora_xtuner.errors import EvaluationError
from moslora_xtuner.progress import bar

from .models import batching
from .models.resolve import Model
from .models.worker_pool import Pool
from .results.predictions import PredictionLog, key
from .tasks.load import Task


@dataclass(frozen=True)
class Answers:
    """The answers in the order of the questions, and how many of them were asked for now."""

    texts: list[str]
    asked_now: int


def answer(
    model: Model, task: Task, file: Path, *, batch_size: int, pool: Callable[[], Pool], quiet: bool = False
) -> Answers:
    """Answer one benchmark.

    A batch of which some answer is not in `file` is asked as a whole, so that its answers do not depend on what was
    there: they are the same for any number of processes and any history of interruptions.

    Args:
        model: whose answers.
        task: the questions.
        file: the JSONL of answers, appended to batch by batch.
        batch_size: questions at a time.
        pool: makes what answers; not called when all answers are there.
        quiet: no progress.

    Raises:
        EvaluationError: the model cannot be loaded or fails, or its processes end.
        OutputError: `file` is not ours.
    """
    asked = task.asked
    settings = f"{task.benchmark.decoding} {task.benchmark.max_new_tokens} {model.conditions(batch_size)}".rstrip()
    keys = [key(model.sha256, settings, model.prompt(item.question), item.question.image_key) for item in asked]
    log = PredictionLog(file)
    try:
        if all(log.get(item.index, name) is not None for item, name in zip(asked, keys, strict=True)):
            planned = []
        else:
            questions = [item.question for item in asked]
            planned = batching.plan(questions, model.lengths(questions), model.batch_size(batch_size))
        todo = [places for places in planned if any(log.get(asked[i].index, keys[i]) is None for i in places)]
        already = len(asked) - sum(map(len, todo))
        done = already
        if todo:
            with bar(f"{model.name}: {task.benchmark.dataset} questions", already=already, quiet=quiet) as tick:
                for number, texts in pool().run([[asked[i].question for i in places] for places in todo]):
                    log.add((asked[i].index, keys[i], text) for i, text in zip(todo[number], texts, strict=True))
                    done += len(texts)
                    tick(done, len(asked))
        found = [log.get(item.index, name) for item, name in zip(asked, keys, strict=True)]
    finally:
        log.close()
    if any(text is None for text in found):
        raise EvaluationError(f"{log.path}: answers are missing after inference; run the evaluation again.")
    return Answers([text for text in found if text is not None], done - already)
