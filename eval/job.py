"""One model on its way through the benchmarks: its answers, and what a benchmark that fails costs, which is itself."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DiskFull, EvaluationError, MoSLoRAError
from moslora_xtuner.progress import note

from .answering import Answers, answer
from .judges.base import JudgeAway
from .models.openai_server import ModelAway
from .models.resolve import Model
from .models.worker_pool import Pool
from .results import scores
from .results.run_folder import LOG
from .settings import Settings
from .tasks.load import LoadedTask


@dataclass
class Job:
    """One model on its way through the benchmarks."""

    model: Model
    folder: Path
    entries: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    answers: dict[str, Answers] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)
    away: list[str] = field(default_factory=list)
    """Benchmarks whose judge did not answer."""
    failed: dict[str, str] = field(default_factory=dict)
    """Other benchmarks without a score that should have one, and why."""
    before: scores.Run = field(init=False)
    """What an earlier evaluation left in the folder."""


def raise_what_is_missing(jobs: Sequence[Job]) -> None:
    """Raise for benchmarks that should have a score and have none; all others are written by now."""
    kept = "The answers and the verdicts so far are kept: run the same command again"
    failed = [f"{job.model.name}, {name}: {why}" for job in jobs for name, why in job.failed.items()]
    away = [f"{job.model.name}: {', '.join(job.away)}" for job in jobs if job.away]
    if failed:
        also = f" Nor, because the judge did not answer: {'; '.join(away)}." if away else ""
        listed = "; ".join(why.rstrip(".") for why in failed)
        others = " All others are scored." if any(job.entries for job in jobs) else ""
        raise EvaluationError(f"not scored: {listed}.{also}{others} {kept} when that is mended")
    if away:
        raise JudgeAway(f"not scored, because the judge did not answer: {'; '.join(away)}. {kept} when it does")


@contextmanager
def costs_only_itself(job: Job, dataset: str, quiet: bool) -> Iterator[None]:
    """Note why a benchmark has no score and go on; a full disk, which none would survive, is raised."""
    try:
        yield
    except DiskFull:
        raise
    except JudgeAway as away:
        job.away.append(dataset)
        job.unscored[dataset] = f"judge unavailable: {away}"
    except MoSLoRAError as fault:
        job.failed[dataset] = " ".join(str(fault).split())
    except Exception as fault:  # a fault of ours or VLMEvalKit's in one benchmark must not lose the others
        with (job.folder / LOG).open("a", encoding="utf-8") as log:
            traceback.print_exception(fault, file=log)
        words = f"{type(fault).__name__}: {fault} (not expected: the traceback stands in {job.folder / LOG})"
        job.failed[dataset] = " ".join(words.split())
    if dataset in job.failed:
        job.unscored[dataset] = f"failed: {job.failed[dataset]}"
    if dataset in job.failed or dataset in job.away:
        note(f"{job.model.name}: {dataset} is not scored: {job.unscored[dataset]}", quiet)


def answer_all(job: Job, tasks: Sequence[LoadedTask], settings: Settings) -> None:
    """Fill in the answers to all benchmarks; the model is loaded at the first question that has none."""
    made: list[Pool] = []
    broken: list[MoSLoRAError] = []

    def pool() -> Pool:
        if broken:
            raise broken[0]
        if not made:
            try:
                made.append(job.model.pool(settings.processes, settings.batch_size))
            except MoSLoRAError as fault:  # it would fail for each benchmark anew
                broken.append(fault)
                raise
        return made[0]

    def drop() -> None:
        for item in made:
            item.close()
        made.clear()
        gc.collect()

    try:
        for task in tasks:
            begun = time.perf_counter()
            dataset = task.benchmark.dataset
            file = job.folder / "predictions" / f"{dataset}.jsonl"
            with costs_only_itself(job, dataset, settings.quiet):
                try:
                    found = answer(
                        job.model, task, file, batch_size=settings.batch_size, pool=pool, quiet=settings.quiet
                    )
                except BaseException as fault:
                    drop()  # processes that have ended are no pool any more
                    if isinstance(fault, ModelAway):
                        broken.append(fault)
                    raise
                job.answers[dataset] = found
                if found.unanswered:
                    named = ", ".join(f"{index} ({why})" for index, why in list(found.unanswered.items())[:3])
                    note(
                        f"{job.model.name}: {dataset}: {len(found.unanswered)} questions got no answer and count as "
                        f"wrong, among them {named}; the next command asks them again",
                        settings.quiet,
                    )
                seconds = time.perf_counter() - begun
                job.seconds[dataset] = {"inference": seconds, "answered": float(found.asked_now)}
    finally:
        drop()
