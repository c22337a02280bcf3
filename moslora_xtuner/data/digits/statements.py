"""Yes/no questions in MME's form: two for each picture, one true and one false.

The subtasks carry MME's own names (Fu et al. 2023), so that VLMEvalKit sums them into perception and cognition.
"""

from __future__ import annotations

import numpy as np

from .questions import scene_for
from .scenes import INKS, Scene, sample_scene

PERCEPTION = ("existence", "count", "position", "color", "scene", "OCR")
COGNITION = ("numerical_calculation", "commonsense_reasoning")
SUBTASKS = PERCEPTION + COGNITION


def scene_for_subtask(subtask: str, rng: np.random.Generator, split: str) -> Scene:
    """A scene about which the subtask's pair of questions can be asked."""
    if subtask == "position":
        return scene_for("where", rng, split)
    layout = {
        "OCR": "one",
        "commonsense_reasoning": "one",
        "numerical_calculation": str(rng.choice(("row", "column"))),
    }.get(subtask)
    return sample_scene(rng, split, layout)


def _different(rng: np.random.Generator, right: int, low: int, high: int) -> int:
    return int(rng.choice([value for value in range(low, high + 1) if value != right]))


def statement_pair(subtask: str, scene: Scene, rng: np.random.Generator) -> tuple[tuple[str, str], tuple[str, str]]:
    """Two questions about the scene, `((text, "Yes"), (text, "No"))`, without the closing instruction.

    Raises:
        ValueError: no such subtask.
    """
    values = scene.values
    if subtask == "existence":
        absent = [value for value in range(10) if value not in values]
        true, false = int(rng.choice(values)), int(rng.choice(absent))
        form = "Is there a {} in the picture?"
    elif subtask == "count":
        true, false = len(values), _different(rng, len(values), 1, 4)
        form = "Is the number of digits {}?"
    elif subtask == "position":
        direction = ("to the left of", "to the right of") if scene.layout == "row" else ("above", "below")
        if scene.layout == "four":
            first, second = values[0], values[1]
            direction = ("to the left of", "to the right of")
        else:
            first, second = values
        right, wrong = direction
        if rng.integers(2):
            first, second, right, wrong = second, first, wrong, right
        return (
            (f"Is the {first} {right} the {second}?", "Yes"),
            (f"Is the {first} {wrong} the {second}?", "No"),
        )
    elif subtask == "color":
        false_ink = str(rng.choice([ink for ink in INKS if ink != scene.ink]))
        return (f"Is the ink {scene.ink}?", "Yes"), (f"Is the ink {false_ink}?", "No")
    elif subtask == "scene":
        other = "dark" if scene.paper == "light" else "light"
        return (f"Is the paper {scene.paper}?", "Yes"), (f"Is the paper {other}?", "No")
    elif subtask == "OCR":
        true, false = values[0], _different(rng, values[0], 0, 9)
        form = "Is this digit a {}?"
    elif subtask == "numerical_calculation":
        true, false = sum(values), _different(rng, sum(values), 0, 18)
        form = "Is the sum of the two digits {}?"
    elif subtask == "commonsense_reasoning":
        kinds = ("even", "odd") if values[0] % 2 == 0 else ("odd", "even")
        return (f"Is this digit an {kinds[0]} number?", "Yes"), (f"Is this digit an {kinds[1]} number?", "No")
    else:
        raise ValueError(f"unknown subtask {subtask!r}; known are {', '.join(SUBTASKS)}")
    return (form.format(true), "Yes"), (form.format(false), "No")
