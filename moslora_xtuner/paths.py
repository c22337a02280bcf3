"""Where this program keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache: $MOSLORA_CACHE, else the desktop's convention."""
    if given := os.environ.get("MOSLORA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moslora-xtuner"
