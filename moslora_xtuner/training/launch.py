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

from ..errors import ConfigError, SetupError, TrainingError, UsageError
from ..output import claim
from ..recipes.catalogue import resolve_config
from .artifacts import ADAPTERS, MANIFEST

LOG = "train.log"
GRACE_SECONDS = 10
"""How long ranks may take to end by themselves when a launch is interrupted."""
_STEP = re.compile(r"Iter\(train\) \[\s*(\d+)/(\d+)\].*?loss: ([-\w.]+)")
_ERROR = re.compile(r"^(?:\[rank\d+\]: ?)?((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt)\b: .+)$")

_CHAIN = re.compile(r"^(?:\[rank\d+\]: ?)?(?:The above exception was the direct cause|During handling of the above)")
_OWN = "moslora_xtuner.errors."
_KILLED = re.compile(r"Signal \d+ \((SIGKILL|SIGBUS|SIGSEGV)\) received by PID")

Progress = Callable[[int, int, float], None]
"""Called with (step, steps in all, loss)."""


def default_processes() -> int:
    """One process a GPU; without a GPU two, or one on a single core."""
    import torch

    return torch.cuda.device_count() or min(2, os.cpu_count() or 1)


def processes_for(gpus: int | None, processes: int | None) -> int:
    """How many processes to start: one for each GPU asked for, or as many as said on a machine without any.

    Raises:
        ConfigError: fewer GPUs are here than asked for.
        UsageError: both were given.
    """
    import torch

    here = torch.cuda.device_count()
    if gpus is None:
        return processes or default_processes()
    if processes is not None:
        raise UsageError("give --gpus or --processes: it is one process a GPU")
    if gpus > here:
        raise ConfigError(
            f"{gpus} GPUs are asked for, this machine has {here}: ask for fewer"
            + ("" if here else ", or leave --gpus out to train on the CPU")
        )
    return gpus


def train(
    config: str,
    *,
    deepspeed: str | None = "zero2",
    processes: int | None = None,
    work_dir: Path | None = None,
    cfg_options: Sequence[str] = (),
    resume: str | None = None,
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
        environment: variables added to the child's.
        progress: called at every logged step; without it a bar is shown.

    Raises:
        ConfigError: there is no such config.
        SetupError: `xtuner` is not installed beside this Python.
        OutputError: the folder holds something that is not ours.
        TrainingError: the run did not leave its adapters behind; the message holds its last error and its log.
    """
    file = resolve_config(config)
    folder = Path(work_dir) if work_dir is not None else Path("work_dirs") / file.stem
    claim(folder, "training run")
    shutil.rmtree(folder / ADAPTERS, ignore_errors=True)
    if resume == "auto":
        resume = newest_checkpoint(folder)
    command = [_program("xtuner"), "train", str(file), "--work-dir", str(folder)]
    command += ["--deepspeed", deepspeed] if deepspeed else []
    command += ["--resume", resume] if resume else []
    command += ["--cfg-options", *cfg_options] if cfg_options else []
    if progress is None:
        from ..progress import bar

        with bar("training") as tick:
            return _run(command, folder, processes or default_processes(), environment or {}, tick)
    return _run(command, folder, processes or default_processes(), environment or {}, progress)


def newest_checkpoint(folder: Path) -> str | None:
    """The checkpoint that a run's folder says was completed last; None when there is none yet.

    mmengine writes `last_checkpoint` after a checkpoint, so one that was cut short is never named.

    Raises:
        TrainingError: the checkpoint that the file names has gone.
    """
    try:
        named = Path((folder / "last_checkpoint").read_text(encoding="utf-8").strip())
    except OSError:
        return None
    found = named if named.exists() else folder / named.name  # the folder may have moved
    if not found.exists():
        raise TrainingError(f"{folder} says that {named} is its newest checkpoint, which is not there: name another")
    return str(found)


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
    log = folder / LOG
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ NPROC_PER_NODE={processes} {' '.join(command)}\n")
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
        before = _terminate_as_exception()
        try:
            for line in child.stdout:
                file.write(line)
                last.append(line)
                if found := _STEP.search(line):
                    progress(int(found[1]), int(found[2]), float(found[3]))
            status = child.wait()
        except BaseException:
            _end(child)
            raise
        finally:
            if before is not None:
                signal.signal(signal.SIGTERM, before)
    if status != 0 or not (folder / ADAPTERS / MANIFEST).is_file():
        raise TrainingError(f"training ended without its adapters: {_reason(last, status)}; the log is {log}")
    return folder


def _terminate_as_exception() -> Any:
    """Turn SIGTERM into SystemExit, so that it ends the ranks as Ctrl-C does; returns the handler to put back."""
    if threading.current_thread() is not threading.main_thread():
        return None

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    return signal.signal(signal.SIGTERM, leave)


def _end(child: subprocess.Popen[str]) -> None:
    """End the child, torchrun and the ranks, which share its session: none may outlive an interrupted launch."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=GRACE_SECONDS)
            if number == signal.SIGTERM:
                time.sleep(0.5)  # the child may go before its own children


def _reason(lines: Sequence[str], status: int) -> str:
    # Ranks that lost their peer fail too, later and with less to say: the first error is the cause. Of a chain of
    # exceptions the last says it best, and an error of this package better than any other.
    errors: list[str] = []
    for line in lines:
        if _CHAIN.search(line) and errors:
            errors.pop()
        elif found := _ERROR.match(line.strip()):
            errors.append(found[1])
    for error in errors:
        if error.startswith(_OWN):
            return error.removeprefix(_OWN)
    # What the others then say of their connection is no cause.
    for line in lines:
        if found := _KILLED.search(line):
            return f"a process was ended by {found[1]}: the machine ran out of memory, or somebody ended it"
    if errors:
        return errors[0]
    return f"exit status {status} and no error in its last lines" if status else "no error in its last lines"
