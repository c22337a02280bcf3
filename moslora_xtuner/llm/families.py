"""Which family a checkpoint belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ConfigError

LLAMA = "llama"
INTERNLM2 = "internlm2"
CONFIG = "config.json"


def checkpoint_file(checkpoint: str | Path, name: str, local_files_only: bool = False) -> Path | None:
    """A checkpoint's file, from a folder or from a hub id; None if absent.

    What is not in the hub's cache is downloaded, unless `local_files_only`.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    from transformers.utils import cached_file

    found = cached_file(
        str(checkpoint),
        name,
        local_files_only=local_files_only,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=not local_files_only,
    )
    return None if found is None else Path(found)


def read_config(checkpoint: str | Path, local_files_only: bool = False) -> dict[str, Any]:
    """A checkpoint's `config.json`.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    try:
        file = checkpoint_file(checkpoint, CONFIG, local_files_only)
        if file is None:
            raise FileNotFoundError(f"it has no {CONFIG}")
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        reason = str(fault).splitlines()[0]
        raise ConfigError(f"no checkpoint at {checkpoint} ({reason}): give its folder or a hub id") from fault
    return content


def family(checkpoint: str | Path) -> str:
    """The `model_type` that a checkpoint says it has.

    Raises:
        ConfigError: there is no checkpoint, or it names no type.
    """
    kind = read_config(checkpoint).get("model_type")
    if not isinstance(kind, str):
        raise ConfigError(f"{checkpoint}: its {CONFIG} names no model_type: this is no language model's folder")
    return kind


def require_family(checkpoint: str | Path, wanted: str) -> None:
    """Stop when a checkpoint is of another family than the config is for.

    Raises:
        ConfigError: it is; or there is no checkpoint.
    """
    found = family(checkpoint)
    if found != wanted:
        raise ConfigError(
            f"{checkpoint} is a checkpoint of type {found!r}, the config is for {wanted!r}: give weights of that "
            "family, or take the recipe of the other one"
        )
