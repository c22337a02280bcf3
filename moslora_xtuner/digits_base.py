"""The small base model that ships with the package: it captions pictures of handwritten digits."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from .errors import SetupError

NAME = "digits"
"""What command lines call it."""


def digits_base() -> Path:
    """Its folder, with `llm`, `visual_encoder` and `projector`. Raises SetupError when it is not there."""
    folder = Path(str(files("moslora_xtuner"))) / "assets" / "digits_base"
    if not (folder / "base.json").is_file():
        raise SetupError(f"the base model is missing at {folder}: install the package again")
    return folder


def language_model(word: str) -> str:
    """A language model as a command line names it: `digits` is this one's, all else stays."""
    return str(digits_base() / "llm") if word == NAME and not Path(word).exists() else word
