"""A model's answers to a benchmark: from disk where they are, else asked for, and on disk before anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from moslora_xtuner.errors import EvaluationError
from moslora_xtuner.progress import bar

from .models import batching
from .models.resolve import Model
from .models.worker_pool import Pool, Unanswered
from .results.predictions import PredictionLog, key
from .tasks.load import Task


@dataclass(frozen=True)
class Answers:
    """The answers in the order of the questions, and how many of them were asked for now.

    `unanswered`: index of a question that the model would not answer, though it answers others, to the reason; its text
    is empty, and is not kept: the next command asks again.
    """

    texts: list[str]
    asked_now: int
    unanswered: dict[str, str] = field(default_factory=dict)


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
        EvaluationError: the model cannot be loaded or fails, answers none of the questions, or its processes end.
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
        unanswered: dict[str, str] = {}
        if todo:
            with bar(f"{model.name}: {task.benchmark.dataset} questions", already=already, quiet=quiet) as tick:
                for number, said in pool().run([[asked[i].question for i in places] for places in todo]):
                    found = list(zip(todo[number], said, strict=True))
                    log.add((asked[i].index, keys[i], text) for i, text in found if isinstance(text, str))
                    unanswered |= {str(asked[i].index): x.reason for i, x in found if isinstance(x, Unanswered)}
                    done += len(found)
                    tick(done, len(asked))
        texts = [log.get(item.index, name) for item, name in zip(asked, keys, strict=True)]
    finally:
        log.close()
    lacking = [str(item.index) for item, text in zip(asked, texts, strict=True) if text is None]
    if set(lacking) - unanswered.keys():
        raise EvaluationError(f"{log.path}: answers are missing after inference; run the evaluation again.")
    if lacking and len(lacking) == len(asked):
        raise EvaluationError(f"{model.source} answered none of {len(asked)} questions ({unanswered[lacking[0]]}).")
    return Answers([text or "" for text in texts], done - already, {name: unanswered[name] for name in lacking})
