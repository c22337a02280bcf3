"""Known defects of VLMEvalKit that `--kit-fixes` corrects, each named beside the scores that it can change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..tasks.registry import Benchmark
from ..tasks.values import value
from .patches import replaced

OPTIONS = "options None, NA, N/A and null are offered and scored (VLMEvalKit drops them)"
LISTS = "answers that are lists are compared (VLMEvalKit counts them as wrong)"
ADDRESSES = "long texts that begin with an address are kept (VLMEvalKit loses them between its files)"


def names(benchmark: Benchmark) -> list[str]:
    """What is corrected where a benchmark is asked and scored. Options of a table of one's own are always texts."""
    found = [OPTIONS] if benchmark.kind == "mcq" and benchmark.table is None else []
    found += [LISTS] if benchmark.vlmeval_class == "MathVista" else []
    return [*found, ADDRESSES] if benchmark.kind != "vqa" else found


@contextmanager
def corrected(active: bool) -> Iterator[None]:
    """Score with the corrections. What is offered as an option is decided before: `tasks/frame.py`.

    WORK-AROUND ms-vlmeval 0.0.20 (dataset/utils/mathvista.py, post_check): a free answer that is neither integer nor
    float is never taken, so that the text None is compared with the right one. Can go when it compares lists.

    WORK-AROUND ms-vlmeval 0.0.20 (smp/file.py, dump): a text that begins with an address and is longer than 2,079
    characters, what a judge said say, is a broken link to xlsxwriter and left out; it is read back as a missing value.
    Can go when it writes with `strings_to_urls` off.
    """
    if not active:
        yield
        return
    import pandas
    from vlmeval.dataset.utils import mathvista

    with ExitStack() as stack:
        stack.enter_context(replaced(mathvista, "post_check", _with_lists(mathvista.post_check)))
        stack.enter_context(replaced(pandas.DataFrame, "to_excel", _plain_texts(pandas.DataFrame.to_excel)))
        yield


def _with_lists(stock: Callable[..., Any]) -> Callable[..., Any]:
    def post_check(line: Any, prefetch: bool = False) -> Any:
        if line["question_type"] == "multi_choice" or line["answer_type"] in ("integer", "float"):
            return stock(line, prefetch=prefetch)
        said = str(line["prediction"] if prefetch else line["res"]).strip()
        right = same(said, str(line["answer"]))
        return said if prefetch and right else right

    return post_check


def same(said: str, answer: str) -> bool:
    """Whether two texts write out equal lists (1 and 1.0 are equal), or else are the same text."""
    first, second = value(said), value(answer)
    if isinstance(first, list) and isinstance(second, list):
        return bool(first == second)
    return said.strip() == answer.strip()


def _plain_texts(stock: Callable[..., Any]) -> Callable[..., Any]:
    def to_excel(self: Any, *where: Any, **options: Any) -> Any:
        if options.get("engine") == "xlsxwriter":
            plain = {"strings_to_formulas": False, "strings_to_urls": False}
            options["engine_kwargs"] = {**(options.get("engine_kwargs") or {}), "options": plain}
        return stock(self, *where, **options)

    return to_excel
