"""What is changed in VLMEvalKit while it scores: its scratch file, its judge, its dice."""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..judges.base import AnyJudge
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
                    stack.enter_context(replaced(module, "build_judge", lambda **_: judge))
            stack.enter_context(replaced(sys.modules["vlmeval.dataset.utils.multiple_choice"], "rd", _NoDice))
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
