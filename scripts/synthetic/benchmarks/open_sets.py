"""The rows of MME, TextVQA, MathVista and MM-Vet, as vlmeval's image_yorn.py and image_vqa.py read them."""

from __future__ import annotations

from typing import Any

from .choices import about
from .names import MATHVISTA_SKILLS, MATHVISTA_TASKS, MME, MMVET, Key, Made, Row
from .pictures import Gallery, Scene


def mme(seed: int, questions: int) -> Made:
    """Pairs of a Yes and a No question, the same number for each of the 14 subtasks, at least one.

    A pair is what has one `category` and one `image_path` (utils/yorn.py: MME_rating). Of every other pair the second
    picture is a reference to the first.
    """
    gallery = Gallery(seed, "mme")
    rows: list[Row] = []
    key: Key = {}
    for subtask in MME:
        for number in range(max(1, -(-questions // (2 * len(MME))))):
            scene, image = gallery.new(len(rows))
            false = about(scene, 0, 2, gallery.rng)
            wrong = false.options[1 - false.right][0]
            pair = len(rows) // 2
            for place, (colour, answer) in enumerate(((scene.colour, "Yes"), (wrong, "No"))):
                index = len(rows)
                rows.append(
                    {
                        "index": index,
                        "image_path": f"images/{subtask}/{number:04d}.jpg",
                        "question": f"Is the {scene.shape} in this image {colour}? Please answer yes or no.",
                        "answer": answer,
                        "category": subtask,
                        "image": image if place == 0 or pair % 2 else str(gallery.holder),
                    }
                )
                key[str(index)] = {"right": answer, "wrong": "No" if answer == "Yes" else "Yes"}
    return rows, key


WORDS = ("stop", "7", "bob's", 'the "red" one', "12:45", "none")
AGREEING = (10, 8, 6, 4)
"""How many of ten people give the answer. From four on it scores 1: 1/3 for each of the nine others who say so."""


def text_vqa(seed: int, questions: int) -> Made:
    """Short answers; the column `answer` is a list of ten as Python writes it (utils/vqa_eval.py: process_line)."""
    gallery = Gallery(seed, "text vqa")
    rows: list[Row] = []
    key: Key = {}
    for number in range(questions):
        index = 34_602 + number
        scene, image = gallery.next(index)
        right = WORDS[number % len(WORDS)]
        agreeing = AGREEING[number % len(AGREEING)]
        others = [f"{right} {scene.colour}", "answering does not require reading text in the image", "unanswerable"]
        given = [right] * agreeing + [others[place % 3] for place in range(10 - agreeing)]
        given = [given[place] for place in gallery.rng.permutation(10)]
        question = f"what does the {scene.shape} say?"
        rows.append({"index": index, "image": image, "question": question, "answer": str(given)})
        key[str(index)] = {"right": right, "wrong": "nothing at all"}
    return rows, key


HINTS = {
    "option": "Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.",
    "integer": "Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, "
    "at the end.",
    "1.0": "Please answer the question requiring a floating-point number with one decimal place and provide the final "
    "value, e.g., 1.2, 1.3, 1.4, at the end.",
    "2.0": "Please answer the question requiring a floating-point number with two decimal places and provide the final "
    "value, e.g., 1.23, 1.34, 1.45, at the end.",
    "list": "Please answer the question requiring a Python list as an answer and provide the final list, e.g., "
    "[1, 2, 3], [1.2, 1.3, 1.4], at the end.",
}


def _math(form: int, scene: Scene, gallery: Gallery) -> tuple[Row, dict[str, Any]]:
    """A question of one of eight forms, and its answers: `said` and, as a judge would extract it, `value`.

    Multiple choice on texts; an integer; one decimal; multiple choice on integers; two decimals; a list; the integer 0;
    an integer in a sentence, which only a judge reads.
    """
    if form in (0, 3):
        choice = about(scene, 0 if form == 0 else 2, 4, gallery.rng)
        texts = [option[0] for option in choice.options]
        listed = "\n".join(f"({letter}) {text}" for letter, text in zip("ABCD", texts, strict=True))
        said = choice.said()
        return {
            "question": f"Hint: {HINTS['option']}\nQuestion: {choice.question[0]}\nChoices:\n{listed}",
            "question_type": "multi_choice",
            "answer_type": "text" if form == 0 else "integer",
            "choices": str(texts),
            "answer": texts[choice.right],
            "answer_option": choice.answer,
        }, {**said, "right_value": said["right"], "wrong_value": said["wrong"]}
    asked, answer_type, precision, right, wrong = {
        1: ("How many shapes are there?", "integer", "", str(scene.count), "9"),
        2: ("Half a pound each: how many pounds?", "float", "1.0", f"{scene.count * 0.5:.1f}", "9.5"),
        4: ("1.25 $ each: how many dollars?", "float", "2.0", f"{scene.count * 1.25:.2f}", "9.75"),
        5: ("How many shapes, and how many with one more?", "list", "", str([scene.count, scene.count + 1]), "[9, 9]"),
        6: ("How many stars are there?", "integer", "", "0", "9"),
        7: ("How many shapes are there?", "integer", "", str(scene.count), "9"),
    }[form]
    hint = HINTS[precision or answer_type]
    sentence = "I count {} of them." if form == 7 else "{}"
    row = {
        "question": f"Hint: {hint}\nQuestion: {asked}",
        "question_type": "free_form",
        "answer_type": answer_type,
        "unit": "$" if form == 4 else "",
        "precision": precision,
        "answer": right,
    }
    key = {"right": sentence.format(right), "wrong": sentence.format(wrong), "right_value": right, "wrong_value": wrong}
    # post_check of ms-vlmeval 0.0.20 compares the text "None" with an answer that is neither option, integer nor float
    return row, key | ({"never_right": True} if answer_type == "list" else {})


MATHVISTA = (
    "index", "image", "question", "answer", "question_type", "answer_type", "choices", "answer_option", "unit",
    "precision", "category", "context", "grade", "language", "skills", "source", "split", "task",
)  # fmt: skip


def math_vista(seed: int, questions: int) -> Made:
    """MathVista's testmini. `question` holds hint and choices, as VLMEvalKit asks no more than that.

    Scored by `question_type`, `answer_type`, `choices`, `answer`, `answer_option`, `task`, `skills`
    (utils/mathvista.py). The key tells apart what a model says and the value that a judge would extract.
    """
    gallery = Gallery(seed, "mathvista")
    rows: list[Row] = []
    key: Key = {}
    for number in range(questions):
        index = number + 1
        scene, image = gallery.next(index)
        row, answers = _math(number % 8, scene, gallery)
        first = number % len(MATHVISTA_SKILLS)
        row |= {
            "index": index,
            "image": image,
            "category": "general-vqa" if number % 2 else "math-targeted-vqa",
            "context": "synthetic scene",
            "grade": ("daily life", "elementary school", "high school", "college")[number % 4],
            "language": "english",
            "skills": str([MATHVISTA_SKILLS[first], MATHVISTA_SKILLS[first - 1]][: 1 + number % 2]),
            "source": "CLEVR-Math",
            "split": "testmini",
            "task": MATHVISTA_TASKS[number % len(MATHVISTA_TASKS)],
        }
        rows.append({name: row.get(name, "") for name in MATHVISTA})
        key[str(index)] = answers
    return rows, key


def mm_vet(seed: int, questions: int) -> Made:
    """MM-Vet: a judge compares the answer with a ground truth in which <AND> joins what is needed, <OR> what will do.

    `category` is a mixture of capabilities (utils/mmvet.py: MMVet_acc).
    """
    gallery = Gallery(seed, "mm-vet")
    rows: list[Row] = []
    key: Key = {}
    for number in range(questions):
        scene, image = gallery.next(number)
        truth, right = (
            (scene.colour, scene.colour),
            (f"{scene.colour}<AND>{scene.shape}", f"{scene.colour} and {scene.shape}"),
            (f"{scene.count}<OR>{scene.count} {scene.shape}s", str(scene.count)),
            (f"{scene.count}<AND>{scene.colour}<OR>{scene.shape}", f"{scene.count}, {scene.colour}"),
        )[number % 4]
        row = {
            "index": number,
            "image": image,
            "question": f"What can be said of the shapes here?\nPlease give {1 + number % 2} word(s).",
            "answer": truth,
            "category": MMVET[number % len(MMVET)],
        }
        rows.append(row)
        key[str(number)] = {"right": right, "wrong": "a cat"}
    return rows, key
