"""What real tables do to those who read them: missing answers, pictures as files, other types, other indices."""

from __future__ import annotations

import base64
from pathlib import Path

from .names import Key, Made, Row

EVERY = 9
"""One question in so many loses its answer."""
REFERENCE = 64
"""A cell `image` of at most so many characters is the index of the row that holds the picture."""


def roughen(name: str, rows: list[Row], key: Key, folder: Path) -> Made:
    """The same rows, harder to read; the key says `never_right` where VLMEvalKit cannot score the right answer.

    All but MM-Vet: some answers are missing. AI2D: pictures are files in FOLDER/images/AI2D_TEST, named by
    `image_path`. ScienceQA: indices are no numbers, and one picture is missing (VLMEvalKit does not ask about it).
    MathVista: a whole number is written as 3.0.
    """
    for row in rows[1::EVERY] if name != "MMVet" else ():
        row["answer"] = ""
        row |= {"answer_option": ""} if "answer_option" in row else {}
    if name == "AI2D_TEST":
        _pictures_as_files(rows, folder / "images" / name)
    if name == "ScienceQA_TEST":
        key = _indices_as_words(rows, key)
    if name == "MathVista_MINI":
        _whole_as_decimal(rows, key)
    return rows, key


def _pictures_as_files(rows: list[Row], folder: Path) -> None:
    held = {str(row["index"]): str(row["image"]) for row in rows}
    for row in rows:
        image = str(row.pop("image"))
        path = folder / row["image_path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(held.get(image, image)))


def _indices_as_words(rows: list[Row], key: Key) -> Key:
    for row in rows:
        row["index"] = f"q{row['index']}"
        row["image"] = f"q{row['image']}" if len(str(row["image"])) <= REFERENCE else row["image"]
    referred = {row["image"] for row in rows}
    next(row for row in rows if row["index"] not in referred)["image"] = ""
    return {f"q{index}": answers for index, answers in key.items()}


def _whole_as_decimal(rows: list[Row], key: Key) -> None:
    row = next(row for row in rows[2:] if row["question_type"] == "free_form" and row["answer_type"] == "integer")
    row["answer"] = f"{row['answer']}.0"
    key[str(row["index"])]["never_right"] = True
