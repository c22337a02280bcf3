"""The versions that work together, and the check that training runs on them."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .errors import SetupError

EXACT = {"xtuner": "0.2.0", "mmengine": "0.10.6", "transformers": "4.48.0"}
"""XTuner 0.2.0 pins these two, and later releases of either break it."""
RANGES = {"peft": ("0.17", "0.19"), "deepspeed": ("0.16.2", "0.17.6")}
"""At least the first and below the second: from deepspeed 0.17.6 on, ZeRO-2 throws away the gradients of all
accumulated micro-batches but the last (DeepSpeed #7718); peft above 0.18 is not tested."""
HOW = "run `bash scripts/install.sh`, or pip install with constraints.txt as the README says"


def _key(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".") if part.isdigit())


def version_problems() -> list[str]:
    """Each package that is missing or of another version than XTuner 0.2.0 works with, in words."""
    problems = []
    for name, wanted in EXACT.items():
        found = installed(name)
        if found != wanted:
            problems.append(f"{name} {found or 'is missing'}, {wanted} is needed")
    for name, (low, high) in RANGES.items():
        found = installed(name)
        if found is None or not _key(low) <= _key(found) < _key(high):
            problems.append(f"{name} {found or 'is missing'}, at least {low} and below {high} is needed")
    return problems


def check_versions() -> None:
    """Stop when a package does not fit.

    Raises:
        SetupError: names what was found, what is needed and how to mend it.
    """
    problems = version_problems()
    if problems:
        raise SetupError(f"packages do not fit together: {'; '.join(problems)}: {HOW}")


def installed(name: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


RECORDED = ("torch", "transformers", "peft", "xtuner", "mmengine", "deepspeed", "bitsandbytes", "ms-vlmeval")


def installed_versions() -> dict[str, str]:
    """The versions that a manifest records; a package that is not there is left out."""
    import platform

    from . import __version__

    found = {name: text for name in RECORDED if (text := installed(name)) is not None}
    return {"moslora-xtuner": __version__, "python": platform.python_version(), **found}


def git_changes(folder: Path, *, untracked: bool) -> tuple[str, int] | None:
    """The commit of the checkout around a folder and how many files differ from it; None outside one.

    Args:
        untracked: whether files that git does not know count.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout

    try:
        changed = git("status", "--porcelain", *(() if untracked else ("--untracked-files=no",))).splitlines()
        return git("rev-parse", "HEAD").strip(), len(changed)
    except (OSError, subprocess.SubprocessError):
        return None
