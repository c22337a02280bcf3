"""One model's folder: whose it is, and that nobody else writes there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moslora_xtuner.errors import OutputError, UsageError
from moslora_xtuner.one_writer import take

LOG = "vlmevalkit.log"
VERDICTS = "verdicts.jsonl"
LOCK = ".lock"
MARKS = ("manifest.json", LOG, "predictions", LOCK)


def folder_name(name: str) -> str:
    """A model's name as a folder: a hyphen for each blank or sign. Raises UsageError when nothing is left."""
    folder = re.sub(r"[^\w.+-]+", "-", name).strip("-")
    if not folder or folder.startswith("."):
        raise UsageError(f"{name!r} cannot name a run folder: begin with a letter or a digit.")
    return folder


def claim(folder: Path) -> None:
    """Make a run folder, or make sure that it is one. Raises OutputError."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: name another output folder.")
    if folder.exists() and any(folder.iterdir()) and not any((folder / name).exists() for name in MARKS):
        raise OutputError(f"{folder} exists and is no evaluation run: name another folder or remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error}.") from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the folder for this process; the system lets go of it also when the process is killed.

    Raises OutputError while another process has it.
    """
    with (folder / LOCK).open("a+") as handle:
        take(folder, handle, "evaluation", "another folder.")
        yield
