"""Each pair of statements has one true and one false, by the scene alone."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.data.digits.scenes import Scene
from moslora_xtuner.data.digits.statements import COGNITION, PERCEPTION, SUBTASKS, scene_for_subtask, statement_pair


def holds(subtask: str, scene: Scene, text: str) -> bool:
    """Whether the statement is true."""
    values = scene.values
    said = [int(found) for found in re.findall(r"\d+", text)]
    if subtask == "existence":
        return said[0] in values
    if subtask == "count":
        return said[0] == len(values)
    if subtask == "position":
        one, other = (values.index(value) for value in said)
        columns, rows = {"row": ((0, 1), (0, 0)), "column": ((0, 0), (0, 1)), "four": ((0, 1, 0, 1), (0, 0, 1, 1))}[
            scene.layout
        ]
        return {
            "left": columns[one] < columns[other],
            "right": columns[one] > columns[other],
            "above": rows[one] < rows[other],
            "below": rows[one] > rows[other],
        }[next(word for word in ("left", "right", "above", "below") if word in text)]
    if subtask == "color":
        return f" {scene.ink}?" in text
    if subtask == "scene":
        return f" {scene.paper}?" in text
    if subtask == "OCR":
        return said[0] == values[0]
    if subtask == "numerical_calculation":
        return said[0] == values[0] + values[1]
    return ("odd" in text) == (values[0] % 2 == 1)


@pytest.mark.parametrize("subtask", SUBTASKS)
@given(seed=st.integers(0, 2**32))
def test_one_is_true_and_one_is_false(subtask: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = scene_for_subtask(subtask, rng, "test")
    pair = statement_pair(subtask, scene, rng)
    assert [answer for _, answer in pair] == ["Yes", "No"]
    assert [holds(subtask, scene, text) for text, _ in pair] == [True, False]
    assert pair[0][0] != pair[1][0]


def test_the_subtasks_are_mmes() -> None:
    """VLMEvalKit sums these names into perception and reasoning; its file is read, since its import is slow."""
    spec = find_spec("vlmeval")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    text = (Path(spec.submodule_search_locations[0]) / "dataset" / "utils" / "yorn.py").read_text()
    lists = {name: re.search(rf"{name}=?\W+\[(.*?)\]", text, re.DOTALL) for name in ("perception", "reasoning")}
    for found, ours in zip(lists.values(), (PERCEPTION, COGNITION), strict=True):
        assert found is not None
        assert set(ours) <= set(re.findall(r"[\w]+", found[1]))
    assert SUBTASKS == PERCEPTION + COGNITION


def test_an_unknown_subtask_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="posters"):
        statement_pair("posters", scene_for_subtask("OCR", rng, "test"), rng)
