"""The comparison of two releases of VLMEvalKit: its answers, and that the same release gives the same scores."""

from __future__ import annotations

import json
from pathlib import Path

import compare_vlmevalkits as script
import pytest

from moslora_xtuner.eval.tasks.registry import GROUPS


def test_answers_are_right_wrong_and_unread() -> None:
    rows = [{"index": index, "answer": "Yes"} for index in range(60)]
    found = script.answers(rows, None, "{}")
    assert {"Yes", "No", "nobody knows"} == set(found)
    assert 30 < found.count("Yes") < 50
    key = {str(index): {"right": "r", "wrong": "w"} for index in range(60)}
    verbose = script.answers(rows, key, script.FORMS["verbose"])
    assert [text.startswith("The correct answer is **r**.") for text in verbose] == [text == "Yes" for text in found]


@pytest.mark.slow
def test_the_same_release_scores_the_same(tmp_path: Path) -> None:
    import vlmeval

    installed, other = script.compare(Path(vlmeval.__file__).resolve().parents[1], [])
    assert json.dumps(installed) == json.dumps(other)
    assert len(installed) == 2 * (len(GROUPS["paper"]) + len(GROUPS["digits"]))
    assert all(isinstance(value, float) for value in installed.values())
    plain = {name: value for name, value in installed.items() if name.endswith("plain")}
    assert all(value > 0 for value in plain.values())
