"""Small tables in VLMEvalKit's form, written row by row."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any


def png(seed: int, size: tuple[int, int] = (48, 48)) -> bytes:
    """A PNG of seeded noise."""
    import numpy
    from PIL import Image

    pixels = numpy.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=numpy.uint8)
    target = BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def png64(seed: int, size: tuple[int, int] = (48, 48)) -> str:
    """The same as base64 text."""
    return base64.b64encode(png(seed, size)).decode()


L2 = {
    "AR": "attribute_reasoning",
    "CP": "coarse_perception",
    "FP-C": "finegrained_perception (cross-instance)",
    "FP-S": "finegrained_perception (instance-level)",
    "LR": "logic_reasoning",
    "RR": "relation_reasoning",
}
# (ability, question, options, right letter): two to four options, numbers among them
MCQ = [
    ("AR", "Is the digit dark or light?", ["dark", "light"], "A"),
    ("CP", "How many digits are there?", ["1", "2", "3"], "B"),
    ("FP-C", "Which is larger?", ["left", "right", "same"], "C"),
    ("FP-S", "Which digit is it?", ["3", "5", "7", "9"], "D"),
    ("LR", "What is the sum?", ["4", "6", "8", "10"], "A"),
    ("RR", "What is left of 3?", ["7", "8"], "B"),
]


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a TSV in the way pandas does."""
    import pandas

    pandas.DataFrame(rows).to_csv(path, sep="\t", index=False)


def circular_rows(repeats: int = 1) -> list[dict[str, Any]]:
    """The questions above with all their rotations; the picture stands in the first row of each."""
    rows = []
    for copy in range(repeats):
        for place, (ability, question, texts, answer) in enumerate(MCQ):
            index = 1 + copy * len(MCQ) + place
            for turn in range(len(texts)):
                turned = texts[turn:] + texts[:turn]
                letter = "ABCD"[("ABCD".index(answer) - turn) % len(texts)]
                row = {"index": index + turn * 1_000_000, "image": png64(index) if turn == 0 else index}
                row |= {"question": question} | dict(zip("ABCD", [*turned, None, None], strict=False))
                row |= {"answer": letter, "category": f"fine {ability}", "l2-category": L2[ability]}
                rows.append(row)
    return rows


def mme_rows() -> list[dict[str, Any]]:
    """Three subtasks, two images each, a Yes and a No question an image."""
    rows = []
    for subtask in ("count", "position", "numerical_calculation"):
        for image in range(2):
            for answer in ("Yes", "No"):
                number = len(rows)
                rows.append(
                    {
                        "index": number,
                        "image": png64(100 + number // 2),
                        "image_path": f"{subtask}/{image}.png",
                        "question": f"Is it so ({answer})? Please answer yes or no.",
                        "answer": answer,
                        "category": subtask,
                    }
                )
    return rows


def vqa_rows() -> list[dict[str, Any]]:
    """Four open questions with ten answers each, on one wide picture."""
    answers = [["7"] * 10, ["12"] * 10, ["3"] * 3 + ["8"] * 7, ["left"] * 10]
    return [
        {"index": i, "image": png64(200, (60, 30)), "question": f"Question {i}?", "answer": str(given)}
        for i, given in enumerate(answers)
    ]
