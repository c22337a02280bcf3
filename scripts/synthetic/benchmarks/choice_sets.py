"""The rows of MMBench, SEED-Bench, AI2D and ScienceQA, as vlmeval's ImageMCQDataset reads them.

VLMEvalKit asks `question`, `hint` where it is there and the columns A to Z that are, and scores by `answer`,
`category`, `l2-category`, `split` (build_prompt in image_mcq.py, report_acc in utils/multiple_choice.py).
"""

from __future__ import annotations

import string

from .choices import ALPHABET, LANGUAGES, SPOILED, Choice, Text, about
from .names import AI2D, MMBENCH, ROTATION_OFFSET, SCIENCE_QA, SEED_BENCH, Key, Made, Row
from .pictures import Gallery, Scene

OPTIONS = (4, 3, 4, 2)
"""Options of the questions in turn."""
HINTS: tuple[Text | None, ...] = (None, ("Look at the picture.", "请看图。"), None)
FIRST_INDEX = {"dev": 241, "test": 500_241}
"""As in the real files dev and test share no index: VLMEvalKit keeps the pictures of both in one folder, by index."""


def _choice(number: int, scene: Scene, gallery: Gallery, options: int | None = None) -> Choice:
    """The question of this number: first those with texts that may be spoiled, then drawn ones."""
    if number < len(SPOILED):
        return SPOILED[number]
    options = options or OPTIONS[number % len(OPTIONS)]
    return about(scene, number % 3, options, gallery.rng, HINTS[number % len(HINTS)])


def mmbench(seed: int, questions: int, language: str, split: str) -> Made:
    """MMBench 1.0 with every rotation of every question, the unrotated ones first; the picture is in one row only.

    Both languages ask the same of the same pictures under the same indices.
    """
    gallery = Gallery(seed, f"mmbench {split}")
    tag = LANGUAGES.index(language)
    abilities = [(fine, coarse) for coarse, names in MMBENCH.items() for fine in names]
    rows: list[Row] = []
    key: Key = {}
    for number in range(questions):
        first = FIRST_INDEX[split] + 3 * number
        scene, image = gallery.next(first)
        choice = _choice(number, scene, gallery)
        fine, coarse = abilities[number % len(abilities)]
        for turn in range(len(choice.options)):
            turned, index = choice.rotated(turn), first + turn * ROTATION_OFFSET
            rows.append(
                {
                    "index": index,
                    **turned.cells(language, "ABCD"),
                    "hint": turned.hint[tag] if turned.hint else "",
                    "answer": turned.answer,
                    "category": fine,
                    "image": image if turn == 0 else str(gallery.holder),
                    "source": "generated",
                    "l2-category": coarse,
                    "comment": "",
                    "split": split,
                }
            )
            key[str(index)] = turned.said()
    return sorted(rows, key=lambda row: int(row["index"])), key


def seed_bench(seed: int, questions: int) -> Made:
    """SEED-Bench's images; the last question has 26 options, which no real one has."""
    gallery = Gallery(seed, "seed bench")
    rows: list[Row] = []
    key: Key = {}
    for number in range(questions):
        index = 100 + number
        scene, image = gallery.next(index)
        choice = _choice(number, scene, gallery, 4) if number < questions - 1 else ALPHABET
        rows.append(
            {
                "index": index,
                "image": image,
                **choice.cells("en", string.ascii_uppercase),
                "answer": choice.answer,
                "category": SEED_BENCH[number % len(SEED_BENCH)],
            }
        )
        key[str(index)] = choice.said()
    return rows, key


def ai2d(seed: int, questions: int) -> Made:
    """AI2D with PNG pictures that have a name too (`image_path`), and 2 to 5 options where the real set has 4."""
    gallery = Gallery(seed, "ai2d", "PNG")
    rows: list[Row] = []
    key: Key = {}
    for number in range(questions):
        scene, image = gallery.next(number)
        choice = _choice(number, scene, gallery, 2 + number % 4)
        rows.append(
            {
                "index": number,
                "image": image,
                "image_path": f"abc_images/{gallery.holder}.png",
                **choice.cells("en", "ABCDE"),
                "answer": choice.answer,
                "category": AI2D[number % len(AI2D)],
            }
        )
        key[str(number)] = choice.said()
    return rows, key


def science_qa(seed: int, questions: int) -> Made:
    """ScienceQA's questions with a picture, 2 to 5 options; whatever is in column E is a number.

    pandas reads a column of numbers and gaps as floating point: VLMEvalKit shows 5.0 for 5.
    """
    gallery = Gallery(seed, "science qa")
    rows: list[Row] = []
    key: Key = {}
    for number in range(questions):
        index = 5 + 2 * number
        scene, image = gallery.next(index)
        choice = _choice(number, scene, gallery, 5 if number % 3 == 2 else 2 + number % 3)
        rows.append(
            {
                "index": index,
                "image": image,
                **choice.cells("en", "ABCDE"),
                "hint": choice.hint[0] if choice.hint else "",
                "answer": choice.answer,
                "category": SCIENCE_QA[number % len(SCIENCE_QA)],
                "split": "test",
            }
        )
        key[str(index)] = choice.said()
    return rows, key
