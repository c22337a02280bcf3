"""The command `moslora`: one short function a verb, each calling one function of the package.

What is heavy is imported inside the verbs, so that `moslora --help` answers at once and a missing
optional package only stops the verbs that need it.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from moslora_xtuner.atomic import FULL, explain
from moslora_xtuner.errors import MoSLoRAError, OutputError, SetupError, UsageError

from . import bases, data, evaluation, quickstart, recipes, serving, training  # noqa: F401  (each registers its verbs, in this order)
from .app import DEBUG, app

INTERRUPTED = 130  # what a shell reports for Ctrl-C
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
_PLACES = {
    errno.EROFS: "give a place that can be written to",
    errno.EACCES: "mend its permissions, or give another place",
    errno.EPERM: "mend its permissions, or give another place",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENOTDIR: "a part of this path is a file",
    errno.EISDIR: "a file is wanted, this is a folder",
}
"""What a fault of the file system asks for, wherever it arose."""
NO_DEPS = ("xtuner==0.2.0", "ms-vlmeval==0.0.20")  # as in requirements-nodeps.txt


def run_app(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; an error is one line on standard error."""
    debug_before = os.environ.get(DEBUG)
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="moslora")
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        return _interrupted() if status == INTERRUPTED else status
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as fault:  # the last line of defence: one line instead of a traceback
        return _fail(fault)
    finally:
        if debug_before is None:
            os.environ.pop(DEBUG, None)
    return 0


def main() -> None:
    """Entry point of the command `moslora`."""
    sys.exit(run_app())


def _fail(fault: Exception) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exception(fault)
    known = _known(fault)
    if known is None:
        text = f"{type(fault).__name__}: {fault}"
        _error(f"{text} (not expected: run it again as 'moslora --debug ...' and report the traceback)")
        return UNEXPECTED
    _error(str(known))
    return known.exit_code


def _known(fault: Exception) -> MoSLoRAError | None:
    if isinstance(fault, MoSLoRAError):
        return fault
    if isinstance(fault, MemoryError):
        return SetupError("the machine's memory is full: end other programs, or ask for fewer workers or less at once")
    if isinstance(fault, OSError) and fault.errno in FULL:
        return explain(Path(str(fault.filename or "what was to be written")), fault)
    if isinstance(fault, OSError) and fault.errno in _PLACES:
        where = f"{fault.filename}: " if fault.filename else ""
        return OutputError(f"{where}{fault.strerror}: {_PLACES[fault.errno]}")
    if isinstance(fault, OSError) and fault.errno == errno.ENAMETOOLONG:
        return UsageError(f"{str(fault.filename)[:60]}... is longer than a file's name may be")
    if isinstance(fault, ModuleNotFoundError) and not (fault.name or "").startswith("moslora_xtuner"):
        return SetupError(
            f"the package {fault.name!r} is missing: run 'bash scripts/install.sh' in a clone, or "
            f"'pip install \"moslora-xtuner[all]\"' and 'pip install --no-deps {' '.join(NO_DEPS)}'"
        )
    return None


def _interrupted() -> int:
    _error("interrupted: the same command goes on where it stopped")
    return INTERRUPTED


def _error(text: Any) -> None:
    line = " ".join(str(text).split())
    typer.echo(f"error: {line}", err=True)
