"""The manifest of a run: what was evaluated, with what, when; and what an earlier start left behind."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models.resolve import Model

PACKAGES = ("moslora-xtuner", "torch", "transformers", "peft", "xtuner", "numpy", "pandas", "pillow")
VLMEVALKIT = ("ms-vlmeval", "vlmeval")
"""VLMEvalKit as PyPI has it, and as its repository calls itself."""


def versions() -> dict[str, str]:
    """Installed versions of the packages that the scores depend on."""
    kit = next((name for name in VLMEVALKIT if _version(name)), VLMEVALKIT[0])
    found = {name: _version(name) or "not installed" for name in (*PACKAGES, kit)}
    return {"python": platform.python_version(), **found}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_state() -> dict[str, Any] | None:
    """Commit and dirtiness of the git checkout that this package runs from, or None."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        state = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "changed_files": len(state.stdout.splitlines())}


def start(model: Model, judge: str, batch_size: int, processes: int, limit: int | None) -> dict[str, Any]:
    """The manifest as it is known before the first answer."""
    return {
        "model": model.name,
        "model_path": str(Path(model.source).resolve()) if Path(model.source).exists() else model.source,
        "model_sha256": model.sha256,
        **model.facts,
        "judge": judge,
        "decoding": "greedy",
        "batch_size": batch_size,
        "processes": processes,
        "limit": limit,
        "command": shlex.join(sys.argv),
        "started": now(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "git": git_state(),
        "datasets": {},
    }


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def previous_entries(folder: Path, fingerprint: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Benchmark entries and dataset records of an earlier evaluation of the same model in this folder.

    Another model's, or a broken file's, are left out: they would be mixed into this model's scores.
    """
    path = folder / "scores.json"
    if not path.is_file():
        return {}, {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["manifest"].get("model_sha256") != fingerprint:
            return {}, {}
        return dict(content["benchmarks"]), dict(content["manifest"].get("datasets", {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, {}
