"""The bridge to VLMEvalKit: our batched answers in, its scores out, one run folder a model."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_json, atomic_lines
from moslora_xtuner.errors import DataError, UsageError
from moslora_xtuner.progress import note

from .answering import answer
from .judges.base import AnyJudge
from .judges.openai_judge import JudgeAddress, JudgeAway
from .models.resolve import Model, find
from .models.worker_pool import Pool
from .results import manifest, scores
from .results.predictions import key
from .results.run_folder import LOG, VERDICTS, claim, folder_name, held
from .scoring import submission
from .scoring.samples import answer_records, sample_records
from .scoring.score import score
from .settings import Settings
from .tasks import catalogue, tables
from .tasks.load import Task, load
from .tasks.registry import EXACT, resolve


@dataclass
class _Job:
    """One model on its way through the benchmarks."""

    model: Model
    folder: Path
    entries: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)
    away: bool = False


def evaluate(
    models: Sequence[str | Path],
    benchmarks: list[str],
    data_root: Path,
    out: Path,
    *,
    names: list[str] | None = None,
    **settings: Any,
) -> list[Path]:
    """Answer and score benchmarks for each model; returns the run folders, OUT/NAME, in the models' order.

    NAME is the model's name (of `names`, else its own) with a hyphen for each blank or sign. A run folder that is there
    already is continued: stored answers to the same questions of the same model are not asked again.

    Args:
        models: see `models.find`.
        benchmarks: dataset names or groups (`paper`, `digits`).
        data_root: holds DATASET.tsv files.
        out: holds the run folders.
        names: one a model.
        settings: fields of `Settings`: `judge` (one word of `--judge` or several) and how it is asked; `batch_size`
            questions at a time in each of `processes`; `limit`, only that many units (circular groups, image pairs,
            questions) of each benchmark; `precision`; `download` of models and tables that are not here; `quiet`, no
            progress.

    Raises:
        UsageError, DataError, OutputError, EvaluationError, SetupError: the message says which, where, and what to do.
        JudgeAway: some benchmark has no score, because the judge did not answer; all others have.
    """
    set_to = Settings(**settings)
    chosen = resolve(benchmarks, catalogue.by_name)
    if min(set_to.batch_size, set_to.processes, 1 if set_to.limit is None else set_to.limit) < 1:
        raise UsageError(
            "batch_size, processes and limit must be at least 1, are "
            f"{set_to.batch_size}, {set_to.processes} and {set_to.limit}."
        )
    if set_to.download:
        data_root.mkdir(parents=True, exist_ok=True)
    if not data_root.is_dir():
        raise DataError(f"{data_root} is no folder: the TSV files of the benchmarks must stand there.")
    set_to.judging.check(chosen)
    for benchmark in chosen:
        if not set_to.download:
            tables.tsv_path(benchmark, data_root)
    jobs = _plan(models, names, out, set_to)
    for job in jobs:
        claim(job.folder)
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(held(job.folder))
        note("Reading the benchmarks (VLMEvalKit takes a while to import)", set_to.quiet)
        tasks = load(
            chosen,
            data_root.resolve(),
            jobs[0].folder / LOG,
            limit=set_to.limit,
            download=set_to.download,
            quiet=set_to.quiet,
        )
        for job in jobs:
            _run(job, tasks, data_root.resolve(), set_to)
    if away := [f"{job.model.name}: {', '.join(job.unscored)}" for job in jobs if job.away]:
        raise JudgeAway(
            f"not scored, because the judge did not answer: {'; '.join(away)}. The answers and the verdicts so far "
            "are kept: run the same command again when it does"
        )
    return [job.folder for job in jobs]


def _plan(models: Sequence[str | Path], names: Sequence[str] | None, out: Path, set_to: Settings) -> list[_Job]:
    if not models:
        raise UsageError("No model was given to evaluate.")
    if names is not None and len(names) != len(models):
        raise UsageError(f"{len(names)} names for {len(models)} models: give one a model.")
    for given in names or ():
        folder_name(given)
    jobs = []
    for place, word in enumerate(models):
        name = names[place] if names else None
        model = find(str(word), precision=set_to.precision, download=set_to.download, name=name, quiet=set_to.quiet)
        jobs.append(_Job(model, out / folder_name(model.name)))
    twice = {job.model.name for job in jobs if sum(other.folder == job.folder for other in jobs) > 1}
    if twice:
        raise UsageError(f"More than one model is named {sorted(twice)[0]!r}: name them apart (--name).")
    return jobs


def _run(job: _Job, tasks: Sequence[Task], data_root: Path, set_to: Settings) -> None:
    """Answer all benchmarks with one model, drop it from memory, then score and write the run folder."""
    model = job.model
    judges = set_to.judges([task.benchmark for task in tasks], job.folder / VERDICTS)
    record = manifest.start(model, str(set_to.judging), set_to.batch_size, set_to.processes, set_to.limit)
    previous = manifest.previous_entries(job.folder, model.sha256)
    atomic_json(job.folder / "manifest.json", record)
    _answer_all(job, tasks, set_to)
    for task in tasks:
        dataset = task.benchmark.dataset
        if not tables.has_answers(task.dataset):
            file = submission.write(job.folder, model.name, task.dataset, task.asked, job.answers[dataset])
            submit = file.relative_to(job.folder)
            job.unscored[dataset] = f"no answers in the table: {submit} is to be submitted ({task.tsv.name})"
            note(f"{model.name}: {dataset} has no answers to score by: submit {file}", set_to.quiet)
            continue
        note(f"{model.name}: scoring {dataset}", set_to.quiet)
        try:
            record["datasets"][dataset] = _score(job, task, data_root, set_to, judges)
        except JudgeAway as away:
            job.away = True
            job.unscored[dataset] = f"judge unavailable: {away}"
            note(f"{model.name}: {dataset} is not scored: {away}", set_to.quiet)
    for judge in judges.values():
        judge.close()
    # An earlier score must not stand for answers that nobody has judged now.
    kept = [{name: value for name, value in old.items() if name not in job.unscored} for old in previous]
    record["finished"] = manifest.now()
    record["datasets"] = {**kept[1], **record["datasets"]}
    record["unscored"] = job.unscored
    atomic_json(job.folder / "manifest.json", record)
    scores.write(job.folder, model.name, {**kept[0], **job.entries}, record)


def _answer_all(job: _Job, tasks: Sequence[Task], set_to: Settings) -> None:
    """Fill in the answers to all benchmarks; the model is loaded at the first question that has none."""
    made: list[Pool] = []

    def pool() -> Pool:
        if not made:
            made.append(job.model.pool(set_to.processes, set_to.batch_size))
        return made[0]

    try:
        for task in tasks:
            begun = time.perf_counter()
            dataset = task.benchmark.dataset
            file = job.folder / "predictions" / f"{dataset}.jsonl"
            found = answer(job.model, task, file, batch_size=set_to.batch_size, pool=pool, quiet=set_to.quiet)
            job.answers[dataset] = found.texts
            seconds = time.perf_counter() - begun
            job.seconds[dataset] = {"inference": seconds, "answered": float(found.asked_now)}
    finally:
        for item in made:
            item.close()
        made.clear()
        gc.collect()


def _score(
    job: _Job, task: Task, data_root: Path, set_to: Settings, judges: Mapping[JudgeAddress, AnyJudge]
) -> dict[str, Any]:
    """Score one benchmark and write what reports read of it; returns its part of the manifest."""
    begun = time.perf_counter()
    dataset, answers = task.benchmark.dataset, job.answers[task.benchmark.dataset]
    address = None if task.benchmark.judge is None else set_to.judging.of(dataset)
    result = score(
        task.benchmark,
        task.dataset,
        task.asked,
        answers,
        folder=job.folder / "vlmeval" / dataset,
        name=job.folder.name,
        data_root=data_root,
        judge=EXACT if address is None else address.file_name,
        log=job.folder / LOG,
        verdicts=None if address is None else judges[address],
    )
    if set_to.limit is not None:
        result.entry["limit"] = set_to.limit
    if lacking := tables.unanswerable(task.benchmark, task.dataset):
        result.entry["unanswerable"] = lacking
        note(f"{dataset}: {lacking} questions whose answer is missing or no option count as wrong", set_to.quiet)
    job.entries[dataset] = result.entry
    atomic_lines(job.folder / "outcomes" / f"{dataset}.jsonl", result.outcomes)
    rows = answer_records(task.benchmark, task.dataset, task.asked, answers, result.hits)
    atomic_lines(job.folder / "answers" / f"{dataset}.jsonl", rows)
    samples = sample_records(task.benchmark, task.dataset, task.asked, answers, result.hits)
    atomic_lines(job.folder / "samples" / f"{dataset}.jsonl", samples)
    job.seconds[dataset]["scoring"] = time.perf_counter() - begun
    return {
        "sha256": task.table.sha256,
        "is_vlmevalkits": task.table.official,
        "tsv": str(task.tsv),
        "asked": len(task.asked),
        "seconds": job.seconds[dataset],
        "prompts_sha256": key(*(item.question.text for item in task.asked)),
    }
