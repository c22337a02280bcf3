"""The bridge to VLMEvalKit: our batched answers in, its scores out, one run folder a model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_lines
from moslora_xtuner.errors import DataError, UsageError
from moslora_xtuner.progress import note

from .harness import Harness
from .job import Job, answer_all, costs_only_itself, raise_what_is_missing
from .judges.base import AnyJudge
from .judges.openai_judge import JudgeAddress
from .models.openai_server import ServedModel
from .models.precision import gpu_names
from .models.resolve import find, require_askable
from .results import scores
from .results.manifest import DatasetRecord, Made, Manifest
from .results.predictions import key
from .results.run_folder import LOG, VERDICTS, claim, folder_name, held
from .scoring import submission
from .scoring.samples import answer_records, sample_records
from .scoring.score import Place, score
from .settings import DEFAULT, Settings
from .tasks import catalogue, own_table, tables
from .tasks.load import LoadedTask, Looked, load, look_at_all
from .tasks.registry import EXACT, Benchmark, resolve
from .tasks.standing_in import asked_for


def evaluate(
    models: Sequence[str | Path],
    benchmarks: list[str],
    data_root: Path | None,
    out: Path,
    settings: Settings = DEFAULT,
    *,
    names: list[str] | None = None,
) -> list[Path]:
    """Answer and score benchmarks for each model; returns the run folders, OUT/NAME, in the models' order.

    NAME is the model's name (of `names`, else its own) with a hyphen for each blank or sign. A run folder that is there
    already is continued: stored answers to the same questions of the same model are not asked again.

    Args:
        models: see `models.resolve.find`.
        benchmarks: dataset names, groups (`paper`, `digits`, `commonsense`), or tables of one's own (`own_table.read`).
        data_root: holds DATASET.tsv files; None where all are tables of one's own.
        out: holds the run folders.
        settings: how they are asked and judged; whether lm-evaluation-harness is, too (OUT/NAME/lm_eval.json).
        names: one a model.

    Raises:
        UsageError, DataError, OutputError, EvaluationError, SetupError: the message says which, where, and what to do.
        JudgeAway: some benchmark has no score, because the judge did not answer; all others have.
        EvaluationError: so too where a benchmark failed otherwise: each costs only itself.
    """
    chosen = _chosen(benchmarks, data_root, settings)
    settings.judging.check(chosen, catalogue.find)
    root = _root(chosen, data_root, settings)
    harness = Harness.ready(chosen, settings)
    jobs = _plan(models, names, out, settings)
    _check_names(jobs, chosen, settings)
    for job in jobs:
        require_askable(job.model, chosen)
    for job in jobs:
        claim(job.folder)
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(held(job.folder))
            job.before = scores.earlier(job.folder, job.model.sha256)  # refused before the first model is asked
            before = Manifest.earlier(job.folder)
            if isinstance(job.model, ServedModel) and (said := job.model.since(before.facts)):
                note(said, settings.quiet)
        kit = any(benchmark.kind != "label" for benchmark in chosen)
        note(f"Reading the benchmarks{' (VLMEvalKit takes a while to import)' if kit else ''}", settings.quiet)
        tasks = load(
            chosen,
            root,
            jobs[0].folder / LOG,
            limit=settings.limit,
            skip_bad=settings.skip_bad,
            kit_fixes=settings.kit_fixes,
            download=settings.download,
            quiet=settings.quiet,
        )
        for job in jobs:
            _run(job, tasks, settings)
            if harness is not None:
                harness.ask(job)
    raise_what_is_missing(jobs)
    return [job.folder for job in jobs]


def check(benchmarks: list[str], data_root: Path | None, settings: Settings = DEFAULT, *, log: Path) -> list[Looked]:
    """Look at the tables of benchmarks as `evaluate` does before it asks, and ask nothing.

    Raises:
        UsageError, DataError: a benchmark or a table is not there, or a table is none at all.
        SetupError: VLMEvalKit is missing, or lacks what is relied on.
    """
    chosen = _chosen(benchmarks, data_root, settings)
    root = _root(chosen, data_root, settings)
    Harness.ready(chosen, settings)
    return look_at_all(
        chosen, root, log, kit_fixes=settings.kit_fixes, download=settings.download, quiet=settings.quiet
    )


def _chosen(benchmarks: list[str], data_root: Path | None, settings: Settings) -> list[Benchmark]:
    """The benchmarks that were named."""
    if settings.download and data_root is not None:
        data_root.mkdir(parents=True, exist_ok=True)
    if data_root is not None and not data_root.is_dir():
        raise DataError(f"{data_root} is no folder: the TSV files of the benchmarks must stand there.")
    words = asked_for(benchmarks, data_root, settings.download)
    return resolve(words, lambda word: own_table.read(word, settings.instruct) or catalogue.by_name(word))


def _root(chosen: Sequence[Benchmark], data_root: Path | None, settings: Settings) -> Path | None:
    """The folder of the tables, once all are there or will be fetched."""
    here = [item for item in chosen if not settings.download or item.table is not None or data_root is None]
    tables.all_there(here, data_root)
    return None if data_root is None else data_root.resolve()


def _plan(models: Sequence[str | Path], names: Sequence[str] | None, out: Path, settings: Settings) -> list[Job]:
    if not models:
        raise UsageError("No model was given to evaluate.")
    if names is not None and len(names) != len(models):
        raise UsageError(f"{len(names)} names for {len(models)} models: give one a model.")
    for given in names or ():
        folder_name(given)
    jobs = []
    for place, word in enumerate(models):
        name = names[place] if names else None
        model = find(
            str(word), precision=settings.precision, download=settings.download, name=name, quiet=settings.quiet
        )
        if isinstance(model, ServedModel):  # that it is the one whose answers are kept shows in what it says
            model = model.probed()
        jobs.append(Job(model, out / folder_name(model.name)))
    twice = {job.model.name for job in jobs if sum(other.folder == job.folder for other in jobs) > 1}
    if twice:
        raise UsageError(f"More than one model is named {sorted(twice)[0]!r}: name them apart (--name).")
    return jobs


def _check_names(jobs: Sequence[Job], benchmarks: Sequence[Benchmark], settings: Settings) -> None:
    """Raise UsageError where the files of a score would have names longer than a file's name may be."""
    for job in jobs:
        for benchmark in benchmarks:
            judge = settings.judging.of(benchmark.dataset)
            longest = f"{job.folder.name}_{benchmark.dataset}_{judge.file_name if judge else EXACT}" + "_" * 32
            if (size := len(longest.encode())) > 255:
                raise UsageError(
                    f"{benchmark.dataset[:40]}... and {job.folder.name[:40]}...: files of the score would have names "
                    f"of {size} bytes, 255 at most: rename the table, or the model (--name)."
                )


def _run(job: Job, tasks: Sequence[LoadedTask], settings: Settings) -> None:
    """Answer all benchmarks with one model, drop it from memory, then score and write the run folder."""
    model = job.model
    judges = settings.judges([task.benchmark for task in tasks], job.folder / VERDICTS)
    made = Made.now(
        judge=str(settings.judging),
        decoding=" and ".join(sorted({task.benchmark.decoding for task in tasks})),
        precision=model.facts.get("precision"),
        batch_size=settings.batch_size,
        processes=settings.processes,
        limit=settings.limit,
        gpus=gpu_names(),
    )
    path = Path(model.source)
    manifest = Manifest(
        model=model.name,
        model_path=str(path.resolve()) if path.exists() else model.source,
        model_sha256=model.sha256,
        facts=model.facts,
        made=made,
    )
    records: dict[str, DatasetRecord] = {}
    manifest.write(job.folder)
    answer_all(job, tasks, settings)
    for task in tasks:
        dataset = task.benchmark.dataset
        if dataset not in job.answers:
            continue
        with costs_only_itself(job, dataset, settings.quiet):
            if not tables.has_answers(task.dataset):
                file = submission.write(job.folder, model.name, task, job.answers[dataset].texts)
                submit = file.relative_to(job.folder)
                job.unscored[dataset] = f"no answers in the table: {submit} is to be submitted ({task.tsv.name})"
                note(f"{model.name}: {dataset} has no answers to score by: submit {file}", settings.quiet)
                continue
            note(f"{model.name}: scoring {dataset}", settings.quiet)
            records[dataset] = _score(job, task, settings, judges, made)
    for judge in judges.values():
        judge.close()
    # An earlier score must not stand for answers that nobody has judged now.
    kept = {name: entry for name, entry in job.before.benchmarks.items() if name not in job.unscored}
    kept_records = {name: item for name, item in job.before.manifest.datasets.items() if name not in job.unscored}
    manifest = manifest.with_datasets(kept_records | records, job.unscored)
    manifest.write(job.folder)
    scores.write(job.folder, model.name, kept | job.entries, manifest)


def table_notes(task: LoadedTask) -> dict[str, Any]:
    """What of a table stands beside its score: questions never right, rows not asked, what a reader should know."""
    found: dict[str, Any] = {}
    if task.unanswerable:
        found["unanswerable"] = task.unanswerable
    if task.left_out:
        found["left_out"] = {"rows": len(task.left_out), "indices": list(task.left_out), "because": list(task.because)}
    if task.said:
        found["notes"] = list(task.said)
    return found


def _score(
    job: Job,
    task: LoadedTask,
    settings: Settings,
    judges: Mapping[JudgeAddress, AnyJudge],
    made: Made,
) -> DatasetRecord:
    """Score one benchmark and write what reports read of it; returns its part of the manifest."""
    begun = time.perf_counter()
    dataset, found = task.benchmark.dataset, job.answers[task.benchmark.dataset]
    answers = found.texts
    address = None if task.benchmark.judge is None else settings.judging.of(dataset)
    result = score(
        task,
        answers,
        Place(job.folder / "vlmeval" / dataset, job.folder.name, task.tsv.parent, job.folder / LOG),
        judge=EXACT if address is None else address.file_name,
        verdicts=None if address is None else judges[address],
        fixes=settings.kit_fixes,
    )
    if settings.limit is not None:
        result.entry["limit"] = settings.limit
    if found.unanswered:
        result.entry["unanswered"] = found.unanswered
    for departure in result.entry.get("judge_departures", ()):
        note(f"{dataset}: {departure}", settings.quiet)
    if unread := result.entry.get("unread_verdicts"):
        named = ", ".join(f"{index} ({why})" for index, why in list(unread.items())[:3])
        note(
            f"{dataset}: {len(unread)} verdicts of the judge cannot be read and count as wrong, among them {named}",
            settings.quiet,
        )
    result.entry.update(table_notes(task))
    if lacking := task.unanswerable:
        note(f"{dataset}: {lacking} questions to which no answer can be right count as wrong", settings.quiet)
    atomic_lines(job.folder / "outcomes" / f"{dataset}.jsonl", result.outcomes)
    rows = answer_records(task, answers, result.hits)
    atomic_lines(job.folder / "answers" / f"{dataset}.jsonl", rows)
    samples = sample_records(task, answers, result.hits)
    atomic_lines(job.folder / "samples" / f"{dataset}.jsonl", samples)
    job.seconds[dataset]["scoring"] = time.perf_counter() - begun
    job.entries[dataset] = result.entry
    return DatasetRecord(
        sha256=task.table.sha256,
        is_vlmevalkits=task.table.official,
        md5=task.table.md5,
        registered_md5=task.table.registered,
        release=task.table.release,
        tsv=str(task.tsv),
        asked=len(task.asked),
        seconds=job.seconds[dataset],
        prompts_sha256=key(*(item.question.text for item in task.asked)),
        made=replace(made, decoding=task.benchmark.decoding),
    )
