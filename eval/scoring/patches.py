"""What is changed in VLMEvalKit while it scores: its scratch file, its judge, its dice."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..judges.base import AnyJudge
from ..results.sheets import XLSX, as_text, original

UNREADABLE = "Z"
"""VLMEvalKit's letter for no option."""


@contextmanager
def scratch_table() -> Iterator[None]:
    """Give the circular evaluation a scratch file of its own, and take it away again.

    WORK-AROUND ms-vlmeval 0.0.20 (dataset/utils/multiple_choice.py, mcq_circular_eval): it writes /tmp/SECOND.xlsx,
    reads it back and leaves it, so two evaluations in one second would read each other's table. Can go when that path
    is no longer made from `timestr`.
    """
    from vlmeval.dataset.utils import multiple_choice

    stock = multiple_choice.timestr
    with tempfile.TemporaryDirectory(prefix="moslora-") as folder:
        multiple_choice.timestr = lambda: f"..{folder}/circular"
        try:
            yield
        finally:
            multiple_choice.timestr = stock


@contextmanager
def plain_tables() -> Iterator[None]:
    """Let no text in the tables that VLMEvalKit writes be a formula.

    WORK-AROUND ms-vlmeval 0.0.20 (smp/file.py, dump): an answer "=1+1" becomes a formula in its xlsx, which runs where
    somebody opens it and is read back as 0; a category may begin with a sign in its CSV (`read_csv` reads those back).
    Can go when `dump` writes texts as texts.
    """
    import pandas

    frame: Any = pandas.DataFrame
    to_excel, to_csv = frame.to_excel, frame.to_csv

    def excel(self: Any, *args: Any, **options: Any) -> Any:
        if options.get("engine") == "xlsxwriter":
            # Addresses stay as VLMEvalKit writes them.
            options.setdefault("engine_kwargs", {"options": {**XLSX["options"], "strings_to_urls": True}})
        return to_excel(self, *args, **options)

    def comma_separated(self: Any, *args: Any, **options: Any) -> Any:
        plain = _each_text(self, as_text) if options.get("sep", ",") == "," else self
        return to_csv(plain, *args, **options)

    with _replaced(frame, "to_excel", excel), _replaced(frame, "to_csv", comma_separated):
        yield


def read_csv(path: Path) -> Any:
    """What VLMEvalKit wrote under `plain_tables`, as a frame."""
    import pandas

    return _each_text(pandas.read_csv(path), original)


def _each_text(frame: Any, change: Callable[[str], str]) -> Any:
    def each(cell: Any) -> Any:
        return change(cell) if isinstance(cell, str) else cell

    return frame.map(each).rename(columns=each)


class _NoDice:
    """Stands in for `random` where VLMEvalKit draws an option for a judge's answers that it cannot read."""

    @staticmethod
    def choice(options: object) -> str:
        """No option, whatever there is to choose from."""
        return UNREADABLE


@contextmanager
def judged_by(judge: AnyJudge | None) -> Iterator[None]:
    """Let VLMEvalKit's scoring ask this judge wherever it would build one of its own.

    WORK-AROUND ms-vlmeval 0.0.20 (dataset/utils/multiple_choice.py, extract_answer_from_item): after three answers of
    the judge that name no option, one is drawn at random and scored. Here it is none, the same in every run, and
    counted. Can go when it is no longer drawn.
    """
    with ExitStack() as stack:
        if judge is not None:
            modules = [m for name, m in list(sys.modules.items()) if name.startswith("vlmeval.dataset")]
            for module in modules:
                if "build_judge" in vars(module):
                    stack.enter_context(_replaced(module, "build_judge", lambda **_: judge))
            stack.enter_context(_replaced(sys.modules["vlmeval.dataset.utils.multiple_choice"], "rd", _NoDice))
        yield


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
