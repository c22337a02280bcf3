"""What is changed in VLMEvalKit while it scores: its scratch file, its judge, its dice, its pool."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from ..judges import asking
from ..judges.asking import Asking, Kind

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


class _NoDice:
    """Stands in for `random` where VLMEvalKit draws an option for a judge's answers that it cannot read."""

    @staticmethod
    def choice(options: object) -> str:
        """No option, whatever there is to choose from."""
        return UNREADABLE


_UTILS = "vlmeval.dataset.utils"
_ASKS = (
    (f"{_UTILS}.multiple_choice", "extract_answer_from_item", asking.OPTION),
    (f"{_UTILS}.mathvista", "MathVista_auxeval", asking.EXTRACTION),
    (f"{_UTILS}.mmvet", "MMVet_auxeval", asking.GRADE),
    (f"{_UTILS}.yorn", "YOrN_auxeval", asking.YES_NO),
)
"""Where VLMEvalKit asks its judge about one answer: FUNCTION(judge, row)."""


@contextmanager
def judged_by(verdicts: Asking | None) -> Iterator[None]:
    """Let VLMEvalKit's scoring ask this judge wherever it would build one of its own.

    WORK-AROUND ms-vlmeval 0.0.20 (dataset/utils/multiple_choice.py, extract_answer_from_item): after three answers of
    the judge that name no option, one is drawn at random and scored. Here it is none, the same in every run, and
    counted. Can go when it is no longer drawn.

    WORK-AROUND ms-vlmeval 0.0.20 (dataset/utils/mmvet.py, mathvista.py, yorn.py, multiple_choice.py): a judge's "nan"
    makes MM-Vet's mean one, "14.0" is not 14, "I can't" is option I. A reply is read by judges/reading.py, and they are
    told what it says. Can go when they read it so.
    """
    with ExitStack() as stack:
        if verdicts is not None:

            def build(max_tokens: int = asking.LONGEST, **_: Any) -> Asking:
                verdicts.max_tokens = max_tokens
                return verdicts

            for path, name, kind in _ASKS:
                place = import_module(path)
                stack.enter_context(_replaced(place, name, _about(getattr(place, name), kind)))
            for module in [m for name, m in list(sys.modules.items()) if name.startswith("vlmeval.dataset")]:
                if "build_judge" in vars(module):
                    stack.enter_context(_replaced(module, "build_judge", build))
            stack.enter_context(_replaced(sys.modules[f"{_UTILS}.multiple_choice"], "rd", _NoDice))
        yield


def _about(stock: Callable[..., Any], kind: Kind) -> Callable[..., Any]:
    """A function of VLMEvalKit's that is told, with its judge, what the verdict is about."""

    def asks(model: Any, item: Any, **options: Any) -> Any:
        return stock(model.about(kind, item) if isinstance(model, Asking) else model, item, **options)

    return asks


class _InTurn:
    """Stands in for multiprocessing.Pool."""

    def __init__(self, *_: Any) -> None:
        pass

    @staticmethod
    def map(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """One after the other, in this process."""
        return [function(item) for item in items]


@contextmanager
def in_this_process() -> Iterator[None]:
    """Score short answers without VLMEvalKit's sixteen processes.

    WORK-AROUND ms-vlmeval 0.0.20 (dataset/image_vqa.py, evaluate_heuristic): a process of its pool that dies, for
    instance because its log cannot be written any more, is waited for without end; each is a copy of this one, and none
    is ever ended. Can go when it scores in threads, or waits with a limit.
    """
    from vlmeval.dataset import image_vqa

    with _replaced(image_vqa, "mp", SimpleNamespace(Pool=_InTurn)):
        yield


@contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
