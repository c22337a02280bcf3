"""The format of the files that this program writes for itself and for others: a number in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = 1


def unreadable(content: Mapping[str, Any], known: int = FORMAT) -> str | None:
    """Why a file's content cannot be read by this version, or None. One without a number is older than numbers."""
    found = content.get("format", known)
    if type(found) is int and found == known:
        return None
    return f"it has the format {found!r}, and this version reads {known}: update moslora-xtuner"
