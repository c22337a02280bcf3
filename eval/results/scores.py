"""scores.json, the contract between scoring and every report: read, check, write, normalise, average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_json, make_folder, read_json
from moslora_xtuner.errors import DataError
from moslora_xtuner.formats import FORMAT, unreadable

from ..tasks.registry import BENCHMARKS
from .manifest import Manifest

FILE_NAME = "scores.json"


@dataclass(frozen=True)
class Run:
    """One model's scores: name, folder, DATASET -> entry as in scores.json, and the manifest."""

    model: str
    folder: Path
    benchmarks: dict[str, dict[str, Any]]
    manifest: Manifest = field(default_factory=Manifest)

    def normalised(self, dataset: str) -> float | None:
        """100 x overall / scale, or None when this run has no such benchmark."""
        entry = self.benchmarks.get(dataset)
        return None if entry is None else 100.0 * float(entry["overall"]) / float(entry["scale"])


@dataclass(frozen=True)
class Mean:
    """The mean over a named set, or, where `value` is None, the reason why there is none."""

    value: float | None
    reason: str = ""


def label(dataset: str) -> str:
    """The short column label of a dataset."""
    return BENCHMARKS[dataset].label if dataset in BENCHMARKS else dataset


def mean(run: Run, datasets: Iterable[str]) -> Mean:
    """The plain mean of 100 x overall / scale, only where every dataset of the set is there and whole."""
    wanted = list(datasets)
    missing = [label(name) for name in wanted if name not in run.benchmarks]
    if missing:
        return Mean(None, f"missing {', '.join(missing)}")
    limited = [label(name) for name in wanted if run.benchmarks[name].get("limit") is not None]
    if limited and len(limited) != len(wanted):
        return Mean(None, f"only a part of {', '.join(limited)} was asked")
    values = [value for name in wanted if (value := run.normalised(name)) is not None]
    return Mean(sum(values) / len(values)) if values else Mean(None, "no benchmark")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_entry(where: str, entry: Any) -> list[str]:
    """The faults of one benchmark's entry, each naming its field."""
    if not isinstance(entry, dict):
        return [f"{where} must be an object, is {type(entry).__name__}"]
    faults = []
    for name in ("overall", "scale"):
        if not _number(entry.get(name)):
            faults.append(f"{where}.{name} must be a finite number, is {entry.get(name)!r}")
    if not faults and entry["scale"] <= 0:
        faults.append(f"{where}.scale must be above 0, is {entry['scale']!r}")
    elif not faults and not 0 <= entry["overall"] <= entry["scale"] * (1 + 1e-9):
        faults.append(f"{where}.overall must lie in 0..{entry['scale']!r} (scale), is {entry['overall']!r}")
    if not isinstance(entry.get("judge"), str | None):
        faults.append(f"{where}.judge must be a name or null, is {entry['judge']!r}")
    faults += [
        f"{where}.{name} must be an object of questions, is {type(entry[name]).__name__}"
        for name in ("unread_verdicts", "unanswered")
        if not isinstance(entry.get(name, {}), dict)
    ]
    abilities = entry.get("abilities", {})
    if not isinstance(abilities, dict):
        return [*faults, f"{where}.abilities must be an object, is {type(abilities).__name__}"]
    wrong = [name for name, value in abilities.items() if not _number(value)]
    faults += [f"{where}.abilities.{name} must be a number, is {abilities[name]!r}" for name in wrong]
    failures = entry.get("parse_failures", 0)
    if not isinstance(failures, int) or failures < 0:
        faults.append(f"{where}.parse_failures must be a count, is {failures!r}")
    return faults


def check(content: Any) -> list[str]:
    """All faults of a scores.json content, each naming the field; an empty list where it is sound."""
    if not isinstance(content, dict):
        return [f"the top must be an object, is {type(content).__name__}"]
    if (why := unreadable(content)) is not None:
        return [why]
    faults = []
    if not isinstance(content.get("model"), str) or not content.get("model"):
        faults.append(f"model must be a name, is {content.get('model')!r}")
    try:
        Manifest.read(content.get("manifest"))
    except ValueError as fault:
        faults.append(str(fault))
    benchmarks = content.get("benchmarks")
    if not isinstance(benchmarks, dict):
        return [*faults, f"benchmarks must be an object of datasets, is {benchmarks!r}"]
    for name, entry in benchmarks.items():
        faults += _check_entry(f"benchmarks.{name}", entry)
    return faults


def read(folder: Path) -> Run:
    """Read and check the scores of one run folder (or the scores.json itself).

    Raises DataError naming the file and every wrong field.
    """
    path = folder if folder.is_file() else folder / FILE_NAME
    if not path.is_file():
        raise DataError(f"{path} does not exist: {folder} is no evaluated run. Make one with `moslora eval`.")
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}). Evaluate the model again.") from error
    faults = check(content)
    if faults:
        raise DataError(f"{path} is not a valid scores file: {'; '.join(faults)}.")
    return Run(content["model"], path.parent, content["benchmarks"], Manifest.read(content.get("manifest")))


def earlier(folder: Path, model_sha256: str) -> Run:
    """What an earlier evaluation of the same model left in its folder; empty where that was another model's.

    Raises DataError for a file that cannot be read, or is of a newer version: it would be lost.
    """
    nothing = Run("", folder, {})
    if not (folder / FILE_NAME).is_file():
        return nothing
    try:
        found = read(folder)
    except DataError as fault:
        raise DataError(f"{fault} Or move it away: the answers beside it are kept.") from fault
    return found if found.manifest.model_sha256 == model_sha256 else nothing


def write(folder: Path, model: str, benchmarks: Mapping[str, Any], manifest: Manifest) -> Path:
    """Write scores.json whole or not at all; returns its path. Raises DataError for invalid content."""
    content = {"format": FORMAT, "model": model, "benchmarks": dict(benchmarks), "manifest": manifest.as_json()}
    faults = check(content)
    if faults:
        raise DataError(f"The scores for {folder / FILE_NAME} are not valid: {'; '.join(faults)}.")
    return atomic_json(make_folder(folder) / FILE_NAME, content)
