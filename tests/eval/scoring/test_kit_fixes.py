"""VLMEvalKit's known defects: there without --kit-fixes, not there with them, and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas
import pytest

from moslora_xtuner.eval.scoring import kit_fixes
from moslora_xtuner.eval.scoring.kit_fixes import corrected, same
from moslora_xtuner.eval.tasks.registry import BENCHMARKS

LONG = "http://example.org/" + "a" * 2_100 + " B"


@pytest.mark.parametrize("active", [False, True])
def test_a_long_text_that_begins_with_an_address(active: bool, tmp_path: Path) -> None:
    from vlmeval.smp import dump, load

    with corrected(active):
        dump(pandas.DataFrame({"res": [LONG, "=1+1", "x"]}), str(tmp_path / "a.xlsx"))
    kept = load(str(tmp_path / "a.xlsx"))["res"].to_list()
    assert kept[2] == "x"
    assert (kept[0] == LONG) is active
    assert pandas.isna(kept[0]) is not active


def free(answer: str, said: str, kind: str = "list") -> dict[str, Any]:
    return {"question_type": "free_form", "answer_type": kind, "answer": answer, "prediction": said, "res": said}


@pytest.mark.parametrize(
    ("answer", "said", "right"),
    [("[1, 2]", "[1, 2]", True), ("[1, 2]", " [1.0,2] ", True), ("[1, 2]", "[2, 1]", False), ("[1, 2]", "1, 2", False)],
)
def test_lists_of_mathvista(answer: str, said: str, right: bool) -> None:
    from vlmeval.dataset.utils import mathvista

    line = free(answer, said)
    assert not mathvista.post_check(line)
    with corrected(True):
        assert mathvista.post_check(line) is right
        assert mathvista.post_check(line, prefetch=True) == (said.strip() if right else False)
        assert mathvista.post_check(free("14", "14", "integer")) is True
    assert not mathvista.post_check(line)
    assert same(said, answer) is right


def test_each_is_named_where_it_can_matter() -> None:
    named = {name: kit_fixes.names(BENCHMARKS[name]) for name in ("AI2D_TEST", "MathVista_MINI", "TextVQA_VAL", "MME")}
    assert named == {
        "AI2D_TEST": [kit_fixes.OPTIONS, kit_fixes.ADDRESSES],
        "MathVista_MINI": [kit_fixes.LISTS, kit_fixes.ADDRESSES],
        "TextVQA_VAL": [],
        "MME": [kit_fixes.ADDRESSES],
    }
