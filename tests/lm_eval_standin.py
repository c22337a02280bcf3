"""A stand-in for lm-evaluation-harness 0.4.13: its names, its arguments, and results laid out as it lays them out.

What it says was printed by the real one (`scripts/harness/`); its only judgement is that the first option is the most
likely, so that tests know every figure.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

BUILT_IN = ("arc_easy", "arc_challenge", "openbookqa", "social_iqa", "winogrande", "piqa", "boolq", "hellaswag")


class Config:
    """Of a task; what is not set is None."""

    dataset_name = None
    validation_split = None

    def __init__(self, **told: Any) -> None:
        self.__dict__.update(told)
        self.told = told


class Task:
    """With its data read, as the harness's tasks have it once they are loaded."""

    def __init__(self, file: Path) -> None:
        self.config = Config(**yaml.safe_load(file.read_text()))
        data = self.config.told["dataset_kwargs"]["data_files"][self.config.told["test_split"]]
        self.eval_docs = [json.loads(line) for line in Path(data).read_text().splitlines()]

    def dump_config(self) -> dict[str, Any]:
        sampler = {"sampler": "default", "doc_to_text": f"<function doc_to_text at {id(self):#x}>"}
        return {**self.config.told, "fewshot_config": sampler}


class TaskManager:
    def __init__(self, include_path: str | None = None) -> None:
        self.files = {}
        for file in sorted(Path(include_path).glob("*.yaml")) if include_path else ():
            self.files[yaml.safe_load(file.read_text())["task"]] = file
        self.all_tasks = sorted({*BUILT_IN, *self.files})

    def load(self, names: list[str]) -> dict[str, Any]:
        (name,) = names
        if name not in self.files:
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub (OfflineModeIsEnabled)")
        return {"tasks": {name: Task(self.files[name])}}


class HFLM:
    def __init__(self, *, pretrained: Any, tokenizer: Any, batch_size: int) -> None:
        self.model, self.tokenizer, self.batch_size = pretrained, tokenizer, batch_size


class Calls(list[dict[str, Any]]):
    """What `simple_evaluate` was called with."""

    broken: str | None = None


def install(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Put it where the real one would be imported from."""
    calls = Calls()

    def simple_evaluate(*, model: Any, tasks: list[Task], limit: int | None, **options: Any) -> dict[str, Any]:
        (task,) = tasks
        name = task.config.told["task"]
        calls.append({"model": model, "task": name, "limit": limit, **options})
        sys.stderr.write("Running loglikelihood requests\n")
        if calls.broken == name:
            raise RuntimeError("out of\nall order")
        rows = task.eval_docs[:limit]
        right = sum(row["label"] == 0 for row in rows) / len(rows)
        found = {"name": name, "alias": name, "sample_len": len(rows), "acc,none": right, "acc_stderr,none": 0.1}
        found |= {"acc_norm,none": right, "acc_norm_stderr,none": "N/A"}
        return {
            "results": {name: found},
            "configs": {name: task.dump_config()},
            "versions": {name: 1.0},
            "n-shot": {name: 0},
            "n-samples": {name: {"original": len(task.eval_docs), "effective": len(rows)}},
            "config": {"model": "x"},
            "date": 1.5,
        }

    top, tasks, models, face = (
        types.ModuleType(f"lm_eval{x}") for x in ("", ".tasks", ".models", ".models.huggingface")
    )
    vars(top).update(__version__="0.4.13", simple_evaluate=simple_evaluate, tasks=tasks, models=models)
    vars(tasks).update(TaskManager=TaskManager)
    vars(face).update(HFLM=HFLM)
    for module in (top, tasks, models, face):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def write_task(folder: Path, name: str, labels: list[int], options: int = 2) -> Path:
    """A task file with local data, in the form that the harness's documentation gives."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"question": f"Which is it, number {place}?", "choices": list("abcde"[:options]), "label": label}
        for place, label in enumerate(labels)
    ]
    data = folder / f"{name}.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump(
            {
                "task": name,
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(data)}},
                "output_type": "multiple_choice",
                "test_split": "test",
                "doc_to_text": "{{question}}\nAnswer:",
                "doc_to_target": "label",
                "doc_to_choice": "choices",
                "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
            }
        )
    )
    return folder
