"""Cells that write out a Python value, as VLMEvalKit reads lists, without running anything."""

from __future__ import annotations

from ast import literal_eval
from typing import Any

NO_VALUE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


def value(text: str) -> Any:
    """The value that a text writes out; None where it is none, or None."""
    try:
        return literal_eval(text.strip())
    except NO_VALUE:
        return None


def refusal(text: str) -> type[Exception] | None:
    """The kind of error with which a text is refused: VLMEvalKit minds some and not others. None for a value."""
    try:
        literal_eval(text.strip())
    except NO_VALUE as error:
        return type(error)
    return None
