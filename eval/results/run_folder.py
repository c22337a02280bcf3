"""One model's folder: whose it is, and that nobody else writes there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moslora_xtuner import output
from moslora_xtuner.atomic import explain, read_json
from moslora_xtuner.errors import UsageError
from moslora_xtuner.one_writer import take

KIND = "evaluation"
LOG = "vlmevalkit.log"
VERDICTS = "verdicts.jsonl"
LOCK = ".lock"
MANIFEST, SCORES = "manifest.json", "scores.json"
HARNESS, HARNESS_LOG = "lm_eval.json", "lm_eval.log"
_OURS = {
    MANIFEST,
    SCORES,
    LOG,
    VERDICTS,
    LOCK,
    HARNESS,
    HARNESS_LOG,
    *("predictions", "vlmeval", "outcomes", "answers", "samples", "submission"),
}
_LONGEST = 120
"""Bytes of a folder's name: VLMEvalKit's files have it and more in theirs, and a file's name may have 255."""


def folder_name(name: str) -> str:
    """A model's name as a folder: a hyphen for each blank or sign.

    Raises UsageError when nothing is left, or too much.
    """
    folder = re.sub(r"[^\w.+-]+", "-", name).strip("-")
    if not folder or folder.startswith("."):
        raise UsageError(f"{name!r} cannot name a run folder: begin with a letter or a digit.")
    if len(folder.encode()) > _LONGEST:
        raise UsageError(
            f"{name[:40]!r}... has {len(folder.encode())} bytes, a run folder's name {_LONGEST} at most: give another "
            "(--name)."
        )
    return folder


def claim(folder: Path) -> None:
    """Make a run folder, or make sure that it is one. Raises OutputError."""
    try:
        if _before_there_were_marks(folder):
            output.mark(folder, KIND)
    except OSError as fault:
        raise explain(folder, fault) from fault
    output.claim(folder, KIND)


def _before_there_were_marks(folder: Path) -> bool:
    """Whether a folder without a mark was written by an evaluation of an earlier version."""
    if not folder.is_dir() or output.marker(folder) is not None:
        return False
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        there = {path.name for path in folder.iterdir()}
        return {LOG, LOCK} <= there <= _OURS and not there & {MANIFEST, SCORES}
    return isinstance(manifest, dict) and {"model", "model_sha256"} <= manifest.keys()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the folder for this process; the system lets go of it also when the process is killed.

    Raises OutputError while another process has it.
    """
    with (folder / LOCK).open("a+") as handle:
        take(folder, handle, "evaluation", "another folder.")
        yield
