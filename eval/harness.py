"""lm-evaluation-harness's own tasks of the sets of commonsense, beside our scores and never among them.

It measures something else, so its figures stand in a file of their own (`results/harness_scores.py`). It runs inside
this process, on the model as `moslora eval` loads it: no server, no copy in another form.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from typing import Any, TextIO

from moslora_xtuner.errors import DataError, EvaluationError, SetupError, UsageError
from moslora_xtuner.progress import note, quiet

from .job import Job, costs_only_itself
from .models.text_model import TextModel
from .results import harness_scores
from .results.harness_scores import OWN_TASKS, HarnessScore, set_of
from .results.run_folder import HARNESS_LOG
from .settings import Settings
from .tasks.registry import Benchmark

TRIED = "0.4.13"
INSTALL = f"pip install lm-eval=={TRIED}"
OPTIONS = 4
"""Texts that a question has about: the harness's batches are of texts."""


@dataclass(frozen=True)
class Harness:
    """The harness, with the tasks that stand beside some benchmarks.

    Attributes:
        tasks: by the set that they are of.
        manager: the harness's TaskManager.
        version: of the harness.
        settings: of the evaluation.
    """

    tasks: Mapping[str, Any]
    manager: Any
    version: str
    settings: Settings

    @classmethod
    def ready(cls, chosen: Sequence[Benchmark], settings: Settings) -> Harness | None:
        """With its tasks loaded; None where it was not asked for. Nothing has been asked of a model by then.

        Raises:
            UsageError: no benchmark has such a task, or one lacks it.
            SetupError: the harness is not installed, or another release without what is used.
            DataError: a task's data is not here, or cannot be read; it names all of them.
        """
        if not settings.kit:
            return None
        sets = list(dict.fromkeys(set_of(item) for item in chosen if item.kind == "label"))
        if not sets:
            raise UsageError(
                "--kit asks lm-evaluation-harness about the sets of commonsense, and none of them was chosen; "
                "VLMEvalKit's own program is python -m moslora_xtuner.eval.vlmevalkit"
            )
        if (folder := settings.kit_tasks) is not None and not folder.is_dir():
            raise UsageError(f"{folder} is no folder: --kit-tasks wants one of lm-evaluation-harness's task files")
        note("Reading lm-evaluation-harness's tasks", settings.quiet)
        with quiet(), nullcontext() if settings.download else redirect_stderr(io.StringIO()):
            try:
                import lm_eval
                from lm_eval.tasks import TaskManager
            except ImportError as fault:
                raise SetupError(f"lm-evaluation-harness is not installed ({fault}): {INSTALL}") from fault
            version = str(getattr(lm_eval, "__version__", "unknown"))
            if not hasattr(TaskManager, "load"):
                raise SetupError(f"lm-evaluation-harness {version} is too old, {TRIED} was tried: {INSTALL}")
            try:
                manager = TaskManager(include_path=None if folder is None else str(folder))
            except Exception as fault:  # it raises what its parser does
                raise DataError(f"{folder}: its task files cannot be read ({_line(fault)})") from fault
            names = {name: _task_name(name, manager) for name in sets}
            with _hub(settings.download):
                tasks = _load(names, manager, settings.download)
        return cls(tasks, manager, version, settings)

    def ask(self, job: Job) -> None:
        """Let the harness score one model, and write what it says; results that are there are kept.

        A task that fails costs only itself, and is told at the end of the evaluation.
        """
        model = job.model
        if not isinstance(model, TextModel):
            raise EvaluationError(f"{model.name} is no language model: lm-evaluation-harness was not asked")
        found = harness_scores.read(job.folder, model.sha256)
        wrapped: list[Any] = []
        try:
            for name, task in self.tasks.items():
                with costs_only_itself(job, f"lm-evaluation-harness's {task.config.task}", self.settings.quiet):
                    key = self._key(model, task)
                    if name in found and found[name].key == key:
                        continue
                    if found.pop(name, None) is not None:  # of other data, or of another number of questions
                        harness_scores.write(job.folder, model.name, model.sha256, found)
                    if not wrapped:
                        wrapped.append(self._wrapped(model))
                    found[name] = self._asked(job, task, key, wrapped[0])
                    harness_scores.write(job.folder, model.name, model.sha256, found)
        finally:
            wrapped.clear()
            gc.collect()

    def _wrapped(self, model: TextModel) -> Any:
        from lm_eval.models.huggingface import HFLM

        from .models.causal_lm import CausalAnswerer

        answerer = CausalAnswerer(model.folders, precision=model.precision)
        with quiet():
            return HFLM(pretrained=answerer.model, tokenizer=answerer.tokenizer, batch_size=self._texts)

    @property
    def _texts(self) -> int:
        return max(1, self.settings.batch_size // OPTIONS)

    def _key(self, model: TextModel, task: Any) -> str:
        """Of all that a result depends on."""
        told = {
            "model": model.sha256,
            "conditions": model.conditions(self._texts),
            "harness": self.version,
            "task": task.dump_config(),
            "limit": self.settings.limit,
        }
        # A config names its functions by where they lie in memory, and holds their sources beside that.
        text = re.sub(r" at 0x[0-9a-f]+", "", json.dumps(told, sort_keys=True, default=str))
        digest = hashlib.sha256(text.encode())
        for row in task.eval_docs:
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def _asked(self, job: Job, task: Any, key: str, wrapped: Any) -> HarnessScore:
        import lm_eval

        name, settings = task.config.task, self.settings
        count = min(len(task.eval_docs), settings.limit or len(task.eval_docs))
        note(f"{job.model.name}: lm-evaluation-harness's {name}, {count} questions", settings.quiet)
        begun = time.perf_counter()
        log = job.folder / HARNESS_LOG
        with log.open("a", encoding="utf-8") as handle, _talk_into(handle), quiet(), _hub(settings.download):
            said: Any = lm_eval.simple_evaluate(
                model=wrapped,
                tasks=[task],
                task_manager=self.manager,
                limit=settings.limit,
                batch_size=self._texts,
                log_samples=False,
            )
        results = {part: said[part][name] for part in ("results", "configs", "versions", "n-shot", "n-samples")}
        results["seconds"] = round(time.perf_counter() - begun, 1)
        metrics = {
            metric.partition(",")[0]: float(value)
            for metric, value in results["results"].items()
            if metric.endswith(",none") and isinstance(value, int | float)
        }
        if "acc" not in metrics:
            raise EvaluationError(f"the task {name} gives no acc but {', '.join(results['results'])}")
        whole = json.loads(json.dumps(results, default=str))
        asked = int(results["n-samples"]["effective"])
        return HarnessScore(name, key, metrics, asked, _data(task), self.version, settings.limit, whole)


def _task_name(name: str, manager: Any) -> str:
    """A set's task: one of the set's own name, which a folder may bring, else the harness's."""
    known = set(manager.all_tasks)
    for task in (OWN_TASKS.get(name), name):
        if task in known:
            return str(task)
    raise UsageError(f"lm-evaluation-harness has no task for {name}: put one of that name into --kit-tasks DIR")


def _load(names: Mapping[str, str], manager: Any, download: bool) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    lacking: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    for name, task in names.items():
        try:
            tasks[name] = manager.load([task])["tasks"][task]
        except KeyError as fault:
            raise UsageError(f"{task} is no single task of lm-evaluation-harness") from fault
        except Exception as fault:  # whatever datasets and the task's own functions raise
            kind = type(fault).__name__
            lacking.setdefault(kind, []).append(task)
            why.setdefault(kind, _line(fault))
    if lacking:
        told = "; ".join(f"{', '.join(found)} ({why[kind]})" for kind, found in lacking.items())
        do = "put their files where --kit-tasks DIR says" if download else "add --download, or --kit-tasks DIR"
        raise DataError(f"the data of lm-evaluation-harness's tasks is not here: {told}: {do}")
    return tasks


def _line(fault: BaseException) -> str:
    """A fault in one line."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:160]}"


def _data(task: Any) -> str:
    config = task.config
    where = "/".join(str(part) for part in (config.dataset_path, config.dataset_name) if part)
    return f"{where}, {config.test_split or config.validation_split}"


@contextmanager
def _talk_into(log: TextIO) -> Iterator[None]:
    """What the harness and the programs that it starts say on standard error goes into a file."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        with redirect_stderr(log):
            yield
    finally:
        log.flush()
        os.dup2(before, 2)
        os.close(before)


@contextmanager
def _hub(download: bool) -> Iterator[None]:
    """Without `download` nothing is fetched: what the hub's cache holds is taken, the rest fails at once.

    WORK-AROUND lm-eval 0.4.13 (api/task.py): it loads a task's data with no way to say that none is to be fetched, and
    waits half a minute a task for a hub that is not there. Can go when it takes such a word.
    """
    import datasets.config
    import huggingface_hub.constants

    places = [(datasets.config, "HF_HUB_OFFLINE"), (huggingface_hub.constants, "HF_HUB_OFFLINE")]
    before = [getattr(place, name) for place, name in places]
    try:
        for place, name in places if not download else ():
            setattr(place, name, True)
        yield
    finally:
        for (place, name), value in zip(places, before, strict=True):
            setattr(place, name, value)
