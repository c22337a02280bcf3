"""What is asked and answered in a record of each source.

The instructions are those of LLaVA-1.5's paper (arXiv 2310.03744, tables of appendix A), each with the first
question of a record alone, as in the published file. How many turns and sentences is said in each function.
"""

from __future__ import annotations

import math

from .text import Dice, Text

Turns = list[tuple[str, str]]

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image."
REGION = "Please provide a short description for this region: "
BOX = "Please provide the bounding box coordinate of the region this sentence describes: "
LANGUAGES = ["en"] * 88 + ["zh"] * 5 + ["es", "fr", "de", "ru", "ko", "ja", "es"]
LONGER = 2.2
"""Sentences in an answer of LLaVA-Instruct over those that the published files' sizes (docs/Data.md of LLaVA) and
14 words a sentence give: chosen for 290 tokens a record on average. 1.0 gives 233, and 282 with the chat template's."""
MEDIAN, SPREAD, LONGEST = 6300, 0.7, 8600  # characters of a ShareGPT conversation in English
SENTENCE = 72  # characters


def _answer(dice: Dice, text: Text, least: int, most: int) -> str:
    """So many sentences, times LONGER, in two paragraphs where they are many."""
    sentences = text.sentences["en"]
    many = round(LONGER * dice.between(least, most))
    head = dice.join(sentences, many // 2, many // 2)
    rest = dice.join(sentences, many - many // 2, many - many // 2)
    glue = "\n\n" if many > 6 else " "
    return f"{head}{glue}{rest}" if head else rest


def _conversation(dice: Dice, text: Text) -> Turns:
    """LLaVA-Instruct, conversation: two to five turns of three to six sentences (126 MB of 58K records)."""
    return [(dice.pick(text.questions), _answer(dice, text, 3, 6)) for _ in range(dice.between(2, 5))]


def _detail(dice: Dice, text: Text) -> Turns:
    """LLaVA-Instruct, detailed description: one answer of five to nine sentences (20.5 MB of 23K records)."""
    return [("Can you describe the main features of this image for me?", _answer(dice, text, 5, 9))]


def _reasoning(dice: Dice, text: Text) -> Turns:
    """LLaVA-Instruct, complex reasoning: a long question, eight to twelve sentences (79.6 MB of 77K records)."""
    question = f"{dice.pick(text.questions)[:-1]} {dice.pick(text.phrases)}?"
    return [(question, _answer(dice, text, 8, 12))]


def _vqa(dice: Dice, text: Text, least: int, most: int) -> Turns:
    turns = [(dice.pick(text.questions), dice.pick(text.short)) for _ in range(dice.between(least, most))]
    turns[0] = (f"{turns[0][0]}\n{SHORT}", turns[0][1])
    return turns


def _vqa_v2(dice: Dice, text: Text) -> Turns:
    """VQAv2: 443,757 questions on 82,783 images, so 5.4 turns."""
    return _vqa(dice, text, 3, 8)


def _ok_vqa(dice: Dice, text: Text) -> Turns:
    """OK-VQA: 9,009 questions, so one turn."""
    return _vqa(dice, text, 1, 1)


def _letters(dice: Dice, text: Text) -> Turns:
    """A-OKVQA: one question with four options, answered with a letter."""
    options = "\n".join([f"{letter}. {dice.pick(text.phrases)}" for letter in "ABCD"])
    return [(f"{dice.pick(text.questions)}\n{options}\n{LETTER}", dice.pick("ABCD"))]


def _regions(dice: Dice, text: Text, least: int, most: int) -> Turns:
    turns = []
    for _ in range(dice.between(least, most)):
        phrase, box = dice.pick(text.phrases), dice.pick(text.boxes)
        turns.append((REGION + box, phrase) if dice.random() < 0.5 else (BOX + phrase, box))
    return turns


def _ref_coco(dice: Dice, text: Text) -> Turns:
    """RefCOCO: cut to fewer than ten turns a record."""
    return _regions(dice, text, 1, 9)


# Thousands of records (paper, table of the mixture): 158 LLaVA, 83 VQAv2, 9 OK-VQA, 66 A-OKVQA, 48 RefCOCO.
_COCO = (
    [_conversation] * 58 + [_detail] * 23 + [_reasoning] * 77 + [_vqa_v2] * 83 + [_ok_vqa] * 9
    + [_letters] * 66 + [_ref_coco] * 48
)  # fmt: skip


def _coco(dice: Dice, text: Text) -> Turns:
    return dice.pick(_COCO)(dice, text)


def _gqa(dice: Dice, text: Text) -> Turns:
    """GQA: about ten turns of a word."""
    return _vqa(dice, text, 5, 16)


def _ocr_vqa(dice: Dice, text: Text) -> Turns:
    """OCR-VQA: about six questions on a book's cover, answered with a name or a title."""
    asked = ("Who wrote this book?", "What is the title of this book?", "What type of book is this?", "Is this book")
    turns = []
    for _ in range(dice.between(4, 8)):
        question = dice.pick(asked)
        question = question if question[-1] == "?" else f"{question} related to {dice.pick(text.names)}?"
        turns.append((question, dice.join(text.names, 1, 4)))
    turns[0] = (f"{turns[0][0]}\n{SHORT}", turns[0][1])
    return turns


def _text_caps(dice: Dice, text: Text) -> Turns:
    """TextCaps: one caption, with what an OCR system read beside the question."""
    question = f"{CAPTION}\nReference OCR token: {dice.join(text.names, 1, 20, ', ')}"
    return [(question, dice.pick(text.sentences["en"]))]


def _visual_genome(dice: Dice, text: Text) -> Turns:
    """Visual Genome: ten annotations of an image, fewer where it has fewer (one in ten here)."""
    return _regions(dice, text, 10, 10) if dice.random() < 0.9 else _regions(dice, text, 1, 9)


def _share_gpt(dice: Dice, text: Text) -> Turns:
    """ShareGPT: two to eight turns; the conversation's length is lognormal and ends where the published one is cut."""
    sentences = text.sentences[dice.pick(LANGUAGES)]
    # Box and Muller: one normal number from two even ones. 1 - x, because the logarithm of 0 does not exist.
    normal = math.sqrt(-2 * math.log(1 - dice.random())) * math.cos(2 * math.pi * dice.random())
    length = min(LONGEST, MEDIAN * math.exp(SPREAD * normal))
    turns = []
    for number in range(count := min(dice.between(2, 8), dice.between(2, 8))):
        parts: list[str] = []
        # In sentences, not characters: those of other scripts have fewer characters, but more tokens in each.
        wanted = length / count / SENTENCE
        while wanted > 0:
            many = dice.between(1, 4)
            wanted -= many
            if dice.random() < 0.06:
                parts.append(dice.pick(text.code))
            elif dice.random() < 0.2:
                parts.append("\n".join([f"{place}. {dice.pick(sentences)}" for place in range(1, many + 1)]))
            else:
                parts.append(" ".join([dice.pick(sentences) for _ in range(many)]))
        if number == count - 1 and dice.random() < 0.1:
            parts.append("😊")
        turns.append((dice.pick(sentences), "\n\n".join(parts)))
    return turns


MAKERS = {
    "coco": _coco,
    "gqa": _gqa,
    "ocr_vqa": _ocr_vqa,
    "textvqa": _text_caps,
    "vg": _visual_genome,
    "text only": _share_gpt,
}
"""What makes the turns of a record, by source."""
