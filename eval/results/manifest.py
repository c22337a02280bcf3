"""The manifest of a run: what was evaluated, and for each benchmark with what and when."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_json, read_json
from moslora_xtuner.formats import FORMAT, unreadable
from moslora_xtuner.versions import git_changes, installed

FILE_NAME = "manifest.json"
PACKAGES = ("moslora-xtuner", "torch", "transformers", "peft", "xtuner", "numpy", "pandas", "pillow")
VLMEVALKIT = ("ms-vlmeval", "vlmeval")
"""VLMEvalKit as PyPI has it, and as its repository calls itself."""


@dataclass(frozen=True)
class Made:
    """With what answers were made and scored. What a manifest does not say is None or empty."""

    judge: str | None = None
    decoding: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    processes: int | None = None
    limit: int | None = None
    command: str | None = None
    started: str | None = None
    machine: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git: Mapping[str, Any] | None = None

    @classmethod
    def now(
        cls,
        *,
        judge: str,
        precision: str | None,
        batch_size: int,
        processes: int,
        limit: int | None,
        decoding: str = "greedy",
        gpus: Sequence[str] = (),
    ) -> Made:
        """By this command, on this machine, with what is installed; `gpus`: the names of its GPUs."""
        return cls(
            judge=judge,
            decoding=decoding,
            precision=precision,
            batch_size=batch_size,
            processes=processes,
            limit=limit,
            command=shlex.join(sys.argv),
            started=now(),
            machine=machine(gpus),
            versions=versions(),
            git=git_state(),
        )


@dataclass(frozen=True)
class DatasetRecord:
    """One benchmark of a run: which table, how many questions, how long it took, and with what.

    `md5` is the table's, `registered_md5` that of VLMEvalKit's; `release` names a table that is another known one.
    """

    sha256: str | None = None
    is_vlmevalkits: bool | None = None
    md5: str | None = None
    registered_md5: str | None = None
    release: str | None = None
    tsv: str | None = None
    asked: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    prompts_sha256: str | None = None
    made: Made = field(default_factory=Made)


@dataclass(frozen=True)
class Manifest:
    """What stands in manifest.json, and in scores.json under `manifest`.

    `made` is of the last command; a benchmark that it did not ask keeps its own. `facts` are the model's own: its
    export, the server that holds it.
    """

    model: str | None = None
    model_path: str | None = None
    model_sha256: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    made: Made = field(default_factory=Made)
    finished: str | None = None
    datasets: Mapping[str, DatasetRecord] = field(default_factory=dict)
    unscored: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, content: Any) -> Manifest:
        """From JSON. A benchmark of an older manifest, which says it once for all, has what the run had.

        Raises ValueError, naming the field.
        """
        content = _object("manifest", content)
        if (why := unreadable(content)) is not None:
            raise ValueError(f"manifest: {why}")
        made = _made("manifest", content)
        records = {}
        for name, record in _object("manifest.datasets", content.get("datasets")).items():
            where = f"manifest.datasets.{name}"
            record = _object(where, record)
            own = _made(f"{where}.made", record["made"]) if "made" in record else made
            records[name] = DatasetRecord(**_known(DatasetRecord, record) | {"made": own})
        unscored = _object("manifest.unscored", content.get("unscored"))
        facts = {name: value for name, value in content.items() if name not in _OWN}
        plain = {name: content.get(name) for name in ("model", "model_path", "model_sha256", "finished")}
        return cls(**plain, facts=facts, made=made, datasets=records, unscored=unscored)

    @classmethod
    def earlier(cls, folder: Path) -> Manifest:
        """What an earlier command left in a run folder; empty where there is none, or none that can be read."""
        try:
            return cls.read(read_json(folder / FILE_NAME))
        except (OSError, ValueError):
            return cls()

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        content = asdict(self)
        facts, made = content.pop("facts"), content.pop("made")
        model = {name: content.pop(name) for name in ("model", "model_path", "model_sha256")}
        return {"format": FORMAT} | model | facts | made | content

    def write(self, folder: Path) -> None:
        """Write manifest.json whole or not at all. Raises OutputError."""
        atomic_json(folder / FILE_NAME, self.as_json())

    def made_of(self, dataset: str) -> Made:
        """With what a benchmark was asked and scored."""
        record = self.datasets.get(dataset)
        return self.made if record is None else record.made

    def with_datasets(self, datasets: Mapping[str, DatasetRecord], unscored: Mapping[str, str]) -> Manifest:
        """The same at the end of a command."""
        return replace(self, datasets=datasets, unscored=unscored, finished=now())


_OWN = {"format", *(item.name for item in fields(Manifest)), *(item.name for item in fields(Made))}


def _object(where: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object, is {type(value).__name__}")
    return value


def _known(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    return {name: value for name, value in content.items() if name in names and value is not None}


def _made(where: str, content: Any) -> Made:
    content = _object(where, content)
    for name in ("versions", "git"):
        _object(f"{where}.{name}", content.get(name))
    return Made(**_known(Made, content))


def machine(gpus: Sequence[str] = ()) -> str:
    """What computes: the GPUs, or the processor and its cores, and the system."""
    counts = Counter(gpus)
    devices = [name if count == 1 else f"{count} x {name}" for name, count in counts.items()]
    return ", ".join([*(devices or [f"{_processor()}, {os.cpu_count()} cores"]), platform.system()])


def _processor() -> str:
    """The processor's name, on Linux as /proc says it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.machine()


def versions() -> dict[str, str]:
    """Installed versions of the packages that the scores depend on."""
    found = {name: installed(name) or "not installed" for name in PACKAGES}
    return {"python": platform.python_version(), **found, **_vlmevalkit()}


def _vlmevalkit() -> dict[str, str]:
    """Which VLMEvalKit scores: the installed one, or a checkout that is imported in its place."""
    kit = next((name for name in VLMEVALKIT if installed(name)), VLMEVALKIT[0])
    module = sys.modules.get("vlmeval")
    if module is None or module.__file__ is None:
        return {kit: installed(kit) or "not installed"}
    folder = Path(module.__file__).resolve().parent
    if installed(kit) and Path(str(distribution(kit).locate_file("vlmeval"))).resolve() == folder:
        return {kit: str(installed(kit))}
    commit = git_changes(folder, untracked=False)
    said = getattr(module, "__version__", "of no version")
    return {VLMEVALKIT[1]: f"{said}, a checkout" + (f" of {commit[0]}" if commit is not None else "")}


def git_state() -> dict[str, Any] | None:
    """Commit and dirtiness of the git checkout that this package runs from, or None."""
    found = git_changes(Path(__file__).resolve().parent, untracked=False)
    return None if found is None else {"commit": found[0], "changed_files": found[1]}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
