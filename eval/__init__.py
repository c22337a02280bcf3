"""Evaluation: answers in batches, scores by VLMEvalKit, tables, intervals, radar and report.

Importing this package is cheap: torch, VLMEvalKit, matplotlib and jinja2 load when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluator import evaluate
    from .report.page import write_report
    from .report.score_table import table
    from .settings import Settings

__all__ = ["Settings", "evaluate", "table", "write_report"]

_HOME = {"Settings": "settings", "evaluate": "evaluator", "table": "report.score_table", "write_report": "report.page"}


def __getattr__(name: str) -> Any:
    """Import the public functions on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
