"""Start the real `xtuner train`, show its progress, and tell the truth about how it ended.

XTuner's entry point runs the tool in another process and ignores that process's exit status, so a failed training
exits 0. What counts here is what a finished run leaves behind (`hooks.SaveAdapters`).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import Interrupted, OutputError, SetupError, TrainingError
from ..output import claim
from ..progress import note
from ..recipes.catalogue import resolve_config
from .artifacts import ADAPTERS, MANIFEST
from .checkpoints.resume import chosen
from .endings import kills_for_memory, reason
from .processes import default_processes
from .run_folder import (
    OVERWRITE,
    STOPPED,
    VALIDATED,
    ask_to_stop,
    is_held,
    no_more_asked,
    require_free,
    require_new,
)
from .starters import parent_of

LOG = "train.log"
LETTING_GO_SECONDS = 10
"""How long the kernel may take, once a process is killed, to take from it what it held: its threads end one by one."""
_STEP = re.compile(r"Iter\(train\) \[\s*(\d+)/(\d+)\].*?loss: ([-\w.]+)")

Progress = Callable[[int, int, float], None]
"""Called with (step, steps in all, loss)."""


def train(
    config: str,
    *,
    deepspeed: str | None = "zero2",
    processes: int | None = None,
    work_dir: Path | None = None,
    cfg_options: Sequence[str] = (),
    resume: str | None = None,
    overwrite: bool = False,
    environment: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Run `xtuner train` to its end and return the run's folder.

    Args:
        config: a file or the name of a shipped config.
        deepspeed: `zero2`, a JSON file, or None for plain data parallelism.
        processes: how many; one a GPU by default.
        work_dir: the run's folder; `work_dirs/CONFIG` by default. Logs are kept in it.
        cfg_options: `key=value` changes of the config.
        resume: a checkpoint to go on from, or `auto`, the newest complete one in the run's folder if there is any.
        overwrite: begin anew in a folder that holds a run; what it left goes when the new one is whole.
        environment: variables added to the child's.
        progress: called at every logged step; without it a bar is shown.

    Raises:
        ConfigError: there is no such config.
        SetupError: `xtuner` is not installed beside this Python.
        OutputError: the folder holds something that is not ours, another training writes there, or it holds a run and
            nobody said what is to become of it.
        Interrupted: it was asked to stop; what it had done is saved.
        TrainingError: the run did not leave its adapters behind; the message holds its last error and its log.
    """
    file = resolve_config(config)
    folder = Path(work_dir) if work_dir is not None else Path("work_dirs") / file.stem
    claim(folder, "training run")
    require_free(folder)
    require_new(folder, resume=resume is not None, overwrite=overwrite)
    environment = {**(environment or {}), **({OVERWRITE: "1"} if overwrite else {})}
    if overwrite:
        resume = None
    elif resume == "auto":
        found = chosen(folder)
        resume = None if found is None else str(found)
    command = [_program("xtuner"), "train", str(file), "--work-dir", str(folder)]
    command += ["--deepspeed", deepspeed] if deepspeed else []
    command += ["--resume", resume] if resume else []
    command += ["--cfg-options", *cfg_options] if cfg_options else []
    if progress is None:
        from ..progress import bar

        with bar("training") as tick:
            return _run(command, folder, processes or default_processes(), environment, tick)
    return _run(command, folder, processes or default_processes(), environment, progress)


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise SetupError(f"{name} is not installed beside {sys.executable}: run `bash scripts/install.sh`")
    return found


def _environment(processes: int, extra: Mapping[str, str]) -> dict[str, str]:
    """The child's variables: this Python first on PATH, since xtuner starts plain `python` and `torchrun`."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    own = {
        "PATH": os.pathsep.join(paths),
        "NPROC_PER_NODE": str(processes),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **own, **extra}


def _run(command: list[str], folder: Path, processes: int, extra: Mapping[str, str], progress: Progress) -> Path:
    last: deque[str] = deque(maxlen=400)
    before, kills = _written(folder), kills_for_memory()
    no_more_asked(folder)
    with _Log(folder / LOG) as log:
        log.write(f"$ NPROC_PER_NODE={processes} {' '.join(command)}\n")
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(processes, extra),
            start_new_session=True,
        )
        assert child.stdout is not None
        with _Stopping(folder) as stopping:
            try:
                for line in child.stdout:
                    log.write(line)
                    last.append(line)
                    if found := _STEP.search(line):
                        progress(int(found[1]), int(found[2]), float(found[3]))
                    elif line.startswith(VALIDATED):
                        note(line.rstrip("\n"))
                status = child.wait()
            except BaseException:
                _end(child, folder)
                raise
            finally:
                no_more_asked(folder)
    if stopping.signal is not None and _written(folder) == before:
        left = next((line.strip() for line in reversed(last) if STOPPED in line), "before its first whole step")
        raise Interrupted(f"{left.removeprefix(STOPPED)}: --resume auto goes on from there", stopping.signal)
    if status != 0 or _written(folder) in (None, before):
        why = reason(last, status, starved=kills_for_memory() > kills)
        raise TrainingError(f"training ended without its adapters: {why}; the log is {log.path}")
    return folder


def _written(folder: Path) -> tuple[int, int] | None:
    """Which result stands in a run's folder: it appears, or is replaced, as a whole."""
    try:
        found = (folder / ADAPTERS / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


class _Log:
    """The run's log. A full disk stops the run with its own name, not with that of whatever fails next."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _Log:
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        return self

    def write(self, line: str) -> None:
        """Raises OutputError."""
        try:
            self._file.write(line)
        except OSError as fault:
            raise OutputError(
                f"{self.path} cannot be written ({fault.strerror}): make room, then --resume auto"
            ) from fault

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._file.close()


class _Stopping:
    """While it lasts, a first Ctrl-C, SIGTERM or SIGHUP asks the run to stop after its step, and a second ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signal: int | None = None

    def __enter__(self) -> _Stopping:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._before[number] = signal.signal(number, self._asked)
        return self

    def _asked(self, number: int, frame: object) -> None:
        if self.signal is not None:
            raise Interrupted("ended at once: --resume auto goes on from the newest checkpoint", number)
        self.signal = number
        with suppress(OSError):  # a closed terminal
            note("stopping after this step; once more ends it at once")
        ask_to_stop(self.folder)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _end(child: subprocess.Popen[str], folder: Path) -> None:
    """End the child and all below it at once: none may outlive an interrupted launch. Saved checkpoints stay whole."""
    for process in [*_below(child.pid), child.pid]:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + LETTING_GO_SECONDS
    while is_held(folder) and time.monotonic() < deadline:
        time.sleep(0.01)


def _below(process: int) -> list[int]:
    """The processes that one has started, and those that they have, in whatever session."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        parents.setdefault(parent_of(int(entry.name)), []).append(int(entry.name))
    found: list[int] = []
    todo = [process]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found
