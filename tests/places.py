"""Where the repository's folders are."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
SCRIPTS = ROOT / "scripts"
CONFIGS = ROOT / "xtuner_configs"
SCRIPT = TESTS / "warm" / "script.py"
"""Runs its first word as Python."""


def python_path(*folders: Path) -> str:
    """PYTHONPATH with more folders behind what it has: an empty entry would be the folder that a program starts in."""
    return os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), *map(str, folders)])
