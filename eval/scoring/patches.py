"""What is changed in VLMEvalKit while it scores: its scratch file, its judge, its dice, its pool."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..judges import asking
from ..judges.asking import Asking, Kind
from ..results.sheets import XLSX, as_text, original
from ..tasks.registry import MME_COGNITION, MME_PERCEPTION, Benchmark

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

    with replaced(frame, "to_excel", excel), replaced(frame, "to_csv", comma_separated):
        yield


def read_csv(path: Path) -> Any:
    """What VLMEvalKit wrote under `plain_tables`, as a frame."""
    import pandas

    return _each_text(pandas.read_csv(path), original)


def _each_text(frame: Any, change: Callable[[str], str]) -> Any:
    def each(cell: Any) -> Any:
        return change(cell) if isinstance(cell, str) else cell

    return frame.map(each).rename(columns=each)


@contextmanager
def parts_are_scored(benchmark: Benchmark) -> Iterator[None]:
    """Let MME and MM-Vet be scored over a part of their subtasks or capabilities, as `--limit` and DigitsMME have them.

    WORK-AROUND VLMEvalKit e8e78f05 (dataset/utils/yorn.py, MME_rating): it asks for all of MME's categories, and
    a table without one ends in KeyError after the last question. It is shown those that are missing with no point in
    them; they are not read back. Can go when the rating takes what is there, as ms-vlmeval 0.0.20's does.

    WORK-AROUND ms-vlmeval 0.0.20 (dataset/utils/mmvet.py, MMVet_acc): it divides by the number of a capability's
    questions, 0 or not. Here its counts are numpy's, of which 0 / 0 is no number and no error; what has no question
    has no score. Can go when it leaves such a capability out.
    """
    from vlmeval.dataset.utils import mmvet, yorn

    with ExitStack() as stack:
        if benchmark.aggregate == "subtask_sum":
            stack.enter_context(replaced(yorn, "load", _with_all_subtasks(yorn.load)))
        stack.enter_context(replaced(mmvet, "defaultdict", _counting))
        yield


def _with_all_subtasks(load: Callable[[str], Any]) -> Callable[[str], Any]:
    def loaded(file: str) -> Any:
        import pandas

        found = load(file)
        lacking = [name for name in MME_PERCEPTION + MME_COGNITION if name not in set(found["category"])]
        rows = [{"category": name, "image_path": "", "score": 0} for name in lacking for _ in range(2)]
        return pandas.concat([found, pandas.DataFrame(rows)], ignore_index=True) if rows else found

    return loaded


def _counting(factory: Callable[[], Any]) -> Any:
    import numpy

    return defaultdict(lambda: numpy.int64(0) if (start := factory()) == 0 else start)


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
                stack.enter_context(replaced(place, name, _about(getattr(place, name), kind)))
            for module in [m for name, m in list(sys.modules.items()) if name.startswith("vlmeval.dataset")]:
                if "build_judge" in vars(module):
                    stack.enter_context(replaced(module, "build_judge", build))
            stack.enter_context(replaced(sys.modules[f"{_UTILS}.multiple_choice"], "rd", _NoDice))
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

    with replaced(image_vqa, "mp", SimpleNamespace(Pool=_InTurn)):
        yield


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Another value of a module's name for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
