"""Training straight from a JSON: it is prepared into the user's cache first, by the same command as by hand."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed

from ..errors import ConfigError, DataError
from ..paths import cache_folder
from ..progress import note
from .reading.sources import open_sources
from .tokens.chat_templates import MAX_LENGTH, Loss, get_template

PATIENCE = timedelta(hours=24)
"""How long the other processes wait for the one that prepares."""


def store_of(
    data_path: str | Sequence[str],
    images: Path,
    tokenizer: Any,
    template: str | None,
    max_length: int | None = None,
    max_images: int = 1,
    skip_bad: float = 0.0,
    loss: Loss | None = None,
) -> Path:
    """The store of a JSON: found in the cache, or made by one process of each machine while the others wait.

    Raises:
        ConfigError: the tokenizer is not given as a config with a path.
        DataError: a record is bad, and there are more than `skip_bad` (a share) allows; every process raises it.
    """
    sources = [data_path] if isinstance(data_path, str) else [str(source) for source in data_path]
    model = tokenizer.get("pretrained_model_name_or_path") if isinstance(tokenizer, dict) else None
    if model is None:
        raise ConfigError(
            "data_path needs the tokenizer as a dict with pretrained_model_name_or_path: its store is made with it"
        )
    if max_length is None:
        max_length = MAX_LENGTH if template is None else get_template(template).max_length
    facts: list[Any] = [str(model), str(images.resolve()), template, max_length, max_images]
    if loss is not None:
        facts.append(loss)
    weights = {source.reader.path: source.weight for source in open_sources(sources)}
    for file in [*weights, *sorted(Path(model).glob("tokenizer*"))]:
        stat = file.stat()
        facts.append([str(file.resolve()), stat.st_size, stat.st_mtime_ns, weights.get(file)])
    out = cache_folder() / "stores" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    command = ["moslora", "data", "prepare", *sources, "--images", str(images), "--model", str(model)]
    if template is not None:
        command += ["--template", template]
    command += ["--max-length", str(max_length), "--max-images", str(max_images)]
    if loss is not None:
        command += ["--loss", loss]
    if skip_bad:
        command += ["--skip-bad", f"{100 * skip_bad:g}%"]
    failure = None
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        note(
            f"{', '.join(sources)} is prepared into {out}; to do it once, before a launch: "
            f"{shlex.join([*command, '-o', 'STORE'])}"
        )
        failure = _run([sys.executable, "-m", "moslora_xtuner", *command[1:], "-o", str(out)])
    if failure := _agree(failure):
        raise DataError(failure)
    return out


def _run(command: list[str]) -> str | None:
    """Run a verb, its progress shown; what it said if it failed. A process of its own: its workers start lean."""
    said: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            said = [*said[-200:], line]
            note(line.rstrip("\n"))
    return "".join(said).strip() or f"it ended with status {process.returncode}" if process.returncode else None


def _agree(failure: str | None) -> str | None:
    """The failure of any process, known to all: one that waited for the others would wait for ever."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return failure
    # A group of its own: the training's has a time-out of minutes.
    group = distributed.new_group(backend="gloo", timeout=PATIENCE)
    found: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, failure, group=group)
    distributed.destroy_process_group(group)
    return next((text for text in found if text), None)
