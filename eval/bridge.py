"""The bridge to VLMEvalKit: our batched answers in, its scores out, one run folder a model."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from moslora_xtuner.data.hashing import sha256
from moslora_xtuner.errors import DataError, EvaluationError, OutputError, UsageError
from moslora_xtuner.progress import bar, note

from . import kit, manifest, scores
from .benchmarks import Benchmark, resolve
from .export_form import ExportForm, fingerprint
from .inference import LlavaAnswerer
from .judge import Judge, JudgeAddress, JudgeAway
from .predictions import PredictionLog, key
from .questions import Asked, ask_all
from .samples import sample_records
from .scoring import score, write_lines

LOG = "vlmevalkit.log"
VERDICTS = "verdicts.jsonl"


@dataclass
class _Task:
    """One benchmark, read once for all models."""

    benchmark: Benchmark
    dataset: Any
    asked: list[Asked]
    sha256: str


@dataclass
class _Job:
    """One model on its way through the benchmarks."""

    model: Path
    name: str
    folder: Path
    fingerprint: str
    entries: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)


def evaluate(
    models: list[Path],
    benchmarks: list[str],
    data_root: Path,
    out: Path,
    *,
    judge: str = kit.EXACT,
    batch_size: int = 64,
    limit: int | None = None,
    names: list[str] | None = None,
    quiet: bool = False,
) -> list[Path]:
    """Answer and score benchmarks for each model; returns the run folders, OUT/NAME, in the models' order.

    NAME is the model's name (of `names`, else of its export) with a hyphen for each blank or sign.

    `benchmarks`: dataset names or groups (`paper`, `digits`); `data_root` holds DATASET.tsv files; `limit`:
    only that many units (circular groups, image pairs, questions) of each; `quiet`: no progress.
    A run folder that is there already is continued: stored answers to the same questions of the same model
    are not asked again. Raises UsageError, DataError, OutputError, EvaluationError, SetupError.
    """
    chosen = resolve(benchmarks)
    address = None if judge == kit.EXACT else JudgeAddress.read(judge)
    jobs = _plan(models, names, out)
    if batch_size < 1 or (limit is not None and limit < 1):
        raise UsageError(f"batch_size and limit must be at least 1, are {batch_size} and {limit}.")
    if not data_root.is_dir():
        raise DataError(f"{data_root} is no folder: the TSV files of the benchmarks must stand there.")
    for benchmark in chosen:
        kit.check_judge(benchmark, judge)
        kit.tsv_path(benchmark, data_root)
    for job in jobs:
        _claim(job.folder)
    data_root, log = data_root.resolve(), jobs[0].folder / LOG
    note("Reading the benchmarks (VLMEvalKit takes a while to import)", quiet)
    tasks = []
    for benchmark in chosen:
        dataset = kit.build_dataset(benchmark, data_root, log)
        asked = ask_all(benchmark, dataset, data_root, limit)
        digest = sha256(kit.tsv_path(benchmark, data_root))
        tasks.append(_Task(benchmark, dataset, asked, digest))
    for job in jobs:
        _run(job, tasks, data_root, quiet, judge=judge, address=address, batch_size=batch_size, limit=limit)
    if lacking := [f"{job.name}: {', '.join(job.unscored)}" for job in jobs if job.unscored]:
        raise JudgeAway(
            f"not scored, because the judge did not answer: {'; '.join(lacking)}. The answers and the verdicts so far "
            "are kept: run the same command again when it does"
        )
    return [job.folder for job in jobs]


def _plan(models: Sequence[Path], names: Sequence[str] | None, out: Path) -> list[_Job]:
    if not models:
        raise UsageError("No model was given to evaluate.")
    if names is not None and len(names) != len(models):
        raise UsageError(f"{len(names)} names for {len(models)} models: give one a model.")
    jobs = []
    for place, model in enumerate(models):
        form = ExportForm.read(model)
        name = names[place] if names else form.name
        folder = re.sub(r"[^\w.+-]+", "-", name).strip("-")
        if not folder or folder.startswith("."):
            raise UsageError(f"{name!r} cannot name a run folder: begin with a letter or a digit.")
        jobs.append(_Job(model, name, out / folder, fingerprint(model)))
    twice = {job.name for job in jobs if sum(other.folder == job.folder for other in jobs) > 1}
    if twice:
        raise UsageError(f"More than one model is named {sorted(twice)[0]!r}: name them apart (names).")
    return jobs


def _claim(folder: Path) -> None:
    """Make a run folder, or make sure that it is one."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: name another output folder.")
    ours = ("manifest.json", LOG, "predictions")
    if folder.exists() and any(folder.iterdir()) and not any((folder / name).exists() for name in ours):
        raise OutputError(f"{folder} exists and is no evaluation run: name another folder or remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error}.") from error


def _run(
    job: _Job,
    tasks: Sequence[_Task],
    data_root: Path,
    quiet: bool,
    *,
    judge: str,
    address: JudgeAddress | None,
    batch_size: int,
    limit: int | None,
) -> None:
    """Answer all benchmarks with one model, drop it from memory, then score and write the run folder."""
    started = datetime.now(timezone.utc)
    record = manifest.start(job.model, job.name, job.fingerprint, started, judge, batch_size, limit)
    previous = manifest.previous_entries(job.folder, job.fingerprint)
    scores.write_whole(job.folder / "manifest.json", record)
    answerer: LlavaAnswerer | None = None
    for task in tasks:
        answerer = _answer(job, task, answerer, quiet, batch_size)
    del answerer
    gc.collect()
    verdicts = Judge(address.model, job.folder / VERDICTS, url=address.url) if address is not None else None
    for task in tasks:
        dataset = task.benchmark.dataset
        note(f"{job.name}: scoring {dataset}", quiet)
        try:
            record["datasets"][dataset] = _score(job, task, data_root, limit, address, verdicts)
        except JudgeAway as away:
            job.unscored[dataset] = f"judge unavailable: {away}"
            note(f"{job.name}: {dataset} is not scored: {away}", quiet)
    if verdicts is not None:
        verdicts.close()
    # An earlier score must not stand for answers that nobody has judged now.
    kept = [{name: value for name, value in old.items() if name not in job.unscored} for old in previous]
    record["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    record["datasets"] = {**kept[1], **record["datasets"]}
    record["unscored"] = job.unscored
    scores.write_whole(job.folder / "manifest.json", record)
    scores.write(job.folder, job.name, {**kept[0], **job.entries}, record)


def _score(
    job: _Job,
    task: _Task,
    data_root: Path,
    limit: int | None,
    address: JudgeAddress | None,
    verdicts: Judge | None,
) -> dict[str, Any]:
    """Score one benchmark and write what reports read of it; returns its part of the manifest."""
    begun = time.perf_counter()
    dataset = task.benchmark.dataset
    result = score(
        task.benchmark,
        task.dataset,
        task.asked,
        job.answers[dataset],
        folder=job.folder / "vlmeval" / dataset,
        name=job.folder.name,
        data_root=data_root,
        judge=kit.EXACT if address is None else address.file_name,
        log=job.folder / LOG,
        verdicts=verdicts,
    )
    if limit is not None:
        result.entry["limit"] = limit
    job.entries[dataset] = result.entry
    write_lines(job.folder / "outcomes" / f"{dataset}.jsonl", result.outcomes)
    records = sample_records(task.benchmark, task.dataset, task.asked, job.answers[dataset], result.hits)
    write_lines(job.folder / "samples" / f"{dataset}.jsonl", records)
    job.seconds[dataset]["scoring"] = time.perf_counter() - begun
    return {
        "sha256": task.sha256,
        "asked": len(task.asked),
        "seconds": job.seconds[dataset],
        "prompts_sha256": key(*(item.question.text for item in task.asked)),
    }


def _answer(
    job: _Job, task: _Task, answerer: LlavaAnswerer | None, quiet: bool, batch_size: int
) -> LlavaAnswerer | None:
    """Fill in the answers of one benchmark, from disk where they are, else from the model."""
    begun = time.perf_counter()
    dataset = task.benchmark.dataset
    form = ExportForm.read(job.model)
    settings = f"greedy {task.benchmark.max_new_tokens}"
    keys = [
        key(job.fingerprint, settings, form.prompt(item.question.text), item.question.image_key) for item in task.asked
    ]
    log = PredictionLog(job.folder / "predictions" / f"{dataset}.jsonl")
    todo = [i for i, item in enumerate(task.asked) if log.get(item.index, keys[i]) is None]
    if todo:
        answerer = answerer or LlavaAnswerer(job.model)
        done = len(task.asked) - len(todo)
        with bar(f"{job.name}: {dataset} questions", already=done, quiet=quiet) as tick:

            def store(places: list[int], texts: list[str]) -> None:
                nonlocal done
                rows = [todo[place] for place in places]
                log.add((task.asked[i].index, keys[i], text) for i, text in zip(rows, texts, strict=True))
                done += len(rows)
                tick(done, len(task.asked))

            answerer.answer([task.asked[i].question for i in todo], batch_size=batch_size, on_batch=store)
    log.close()
    found = [log.get(item.index, keys[i]) for i, item in enumerate(task.asked)]
    if any(text is None for text in found):
        raise EvaluationError(f"{log.path}: answers are missing after inference; run the evaluation again.")
    job.answers[dataset] = [text for text in found if text is not None]
    job.seconds[dataset] = {"inference": time.perf_counter() - begun, "answered": float(len(todo))}
    return answerer
