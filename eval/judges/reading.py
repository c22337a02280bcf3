"""What a judge's reply says: a verdict in the form that VLMEvalKit reads, or none, and why.

VLMEvalKit's own reader comes first. Where it reads nothing, or what nobody meant ("nan", the "0." of an answer that was
cut off, the letter I of "I can't"), a reply is read here if its meaning is plain; else the verdict is unread.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import Reply
from .refusals import declines, what_is_left

FAILED = "Failed to obtain answer via API."
"""VLMEvalKit's words for no reply (vlmeval/api/base.py): none of its readers takes them for a verdict."""
NO_OPTION, UNKNOWN = "Z", "Unknown"
"""A judge's words for an answer that is no option, or neither yes nor no (VLMEvalKit's prompts ask for them)."""
_MARKS = re.compile(r"[*_`|\"'\u201c\u201d\u2018\u2019]+")
_LABEL = re.compile(
    r"^(?:the\s+)?(?:final\s+|extracted\s+|correct(?:ness)?\s+|your\s+)*(?:correctness|score|grade|rating|answer|output|value|result)"
    r"(?:\s+(?:score|for\s+\w+))?\s*(?:is|:|=|would\s+be)+\s*",
    re.IGNORECASE,
)
_GRADE = re.compile(r"(?P<whole>0?[.,]\d+|[01](?:[.,]0+)?)(?P<rest>.*)", re.DOTALL)
_NOT_ALONE = re.compile(r"\s*(?:[/%~]|[\u2013-]\s*\d|(?:out\s+of|of|or|to|and|per\s?cent)\b)", re.IGNORECASE)
_FRACTION = re.compile(r"[.,]\d")
_NUMBER = re.compile(
    r"(?:approximately |about |around )?[$\u20ac\u00a3\u00a5]?\s*"
    r"(?P<number>[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d+)?)"
    r"\s*(?:%|\u00b0|[A-Za-z\u00b0\u00b5]+(?:\s+[A-Za-z]+)?)?\s*\.?"
)


@dataclass(frozen=True)
class Read:
    """A verdict as VLMEvalKit is told it; `ours`: from the same reply it would have read another one, or none."""

    text: str
    ours: bool = False


@dataclass(frozen=True)
class Unread:
    """No verdict, and why."""

    reason: str


Outcome = Read | Unread


def grade(reply: Reply) -> Outcome:
    """MM-Vet's grade, 0 to 1."""
    text = unicodedata.normalize("NFKC", reply.text).strip()
    if not text:
        return Unread("an empty reply")
    try:
        stock: float | None = float(text)
    except ValueError:
        stock = None
    bare = _LABEL.sub("", _MARKS.sub("", text).strip())
    found = _GRADE.match(bare)
    if found is not None and _plain_grade(found["whole"], found["rest"]):
        if reply.cut and not found["rest"].strip(" .,") and not _FRACTION.search(found["whole"]):
            return Unread(f"a grade that was cut off, {text!r:.40}")
        value = float(found["whole"].replace(",", "."))
        return Read(repr(value), ours=stock != value) if value <= 1 else Unread(f"no grade from 0 to 1, {text!r:.40}")
    if stock is not None and 0 <= stock <= 1:  # 1e-1
        return Read(repr(stock))
    return Unread("a refusal" if declines(text) else f"no grade from 0 to 1, {text!r:.40}")


def _plain_grade(number: str, rest: str) -> bool:
    """Whether a grade that begins a reply is all that is meant: not so the 1 of "1 of 2", nor the 0.5 of "0.5 or 1"."""
    if rest[:1].isdigit() or (rest[:1] in (".", ",") and rest[1:2].isdigit()):
        return False
    if re.fullmatch(r"\s*/\s*1(?:\.0)?\W*", rest):
        return True
    if _NOT_ALONE.match(rest):
        return False
    if _FRACTION.search(number):
        return True
    return re.match(r"\s*(?:$|[.;:()\n\u2014]|[,\u2013-]\s|because\b|since\b|\(|points?\b)", rest) is not None


def extracted(reply: Reply, row: Mapping[str, Any]) -> Outcome:
    """The answer that was found in a MathVista answer: any words, a number as VLMEvalKit's int() and float() take it.

    Words for a question about a number are a verdict too: that is what the model said, and it is wrong.

    Args:
        reply: of the judge.
        row: the question, with the answer that was given.
    """
    text = _writable(reply.text).strip()
    if not text:
        return Unread("an empty reply")
    if FAILED in text:
        return Unread("a failed request")
    if declines(text) and not what_is_left(text) and text not in str(row["prediction"]):
        return Unread("a refusal")
    kind = str(row.get("answer_type"))
    if str(row.get("question_type")) == "multi_choice" or kind not in ("integer", "float"):
        return Read(text)
    try:
        stock = float(int(text)) if kind == "integer" else float(text)
    except ValueError:
        stock = math.nan
    if math.isfinite(stock):
        return Read(text)
    if text.lower().strip("+-. ") in ("nan", "inf", "infinity"):
        return Unread(f"no number, {text!r:.40}")
    bare = _LABEL.sub("", _MARKS.sub("", unicodedata.normalize("NFKC", text)).strip())
    found = _NUMBER.fullmatch(bare)
    number = found["number"].replace(",", "").replace("\u2212", "-") if found is not None else ""
    try:
        value = float(number)
    except ValueError:
        return Read(text)
    if not math.isfinite(value):
        return Unread(f"no number, {text!r:.40}")
    if kind == "float":
        return Read(repr(value), ours=True)
    return Read(str(int(value)), ours=True) if value.is_integer() else Read(text)


def _left(reply: Reply) -> str | Unread:
    """What of a reply does not decline; unread where that is nothing."""
    text = reply.text.strip()
    return what_is_left(text) or Unread("a refusal" if text else "an empty reply")


def option(reply: Reply, choices: Mapping[str, Any]) -> Outcome:
    """The letter of an option, or Z for none of them."""
    from vlmeval.utils import can_infer

    text, left = reply.text.strip(), _left(reply)
    if isinstance(left, Unread):
        return left
    stock = can_infer(text, dict(choices))
    for said in (left, left.splitlines()[0]):
        if (found := can_infer(said, dict(choices))) and (found in choices or re.search(r"\bZ\b", said)):
            return Read(str(found), ours=found != stock)
    alone = re.fullmatch(r"\W*([A-Za-z])\W*", left)
    if alone is not None and (letter := alone[1].upper()) in {*choices, NO_OPTION}:
        return Read(letter, ours=True)
    return Unread(f"no option, {text!r:.40}")


def yes_no(reply: Reply) -> Outcome:
    """Yes, No, or Unknown for neither."""
    from vlmeval.dataset.utils.yorn import YOrN_Extraction

    text, left = reply.text.strip(), _left(reply)
    if isinstance(left, Unread):
        return left
    if (found := YOrN_Extraction(left)) != UNKNOWN:
        return Read(found, ours=found != YOrN_Extraction(text))
    if re.search(r"\bunknown\b", left, re.IGNORECASE):
        return Read(UNKNOWN)
    return Unread(f"neither yes nor no, {text!r:.40}")


def _writable(text: str) -> str:
    """Without what a spreadsheet cannot hold: VLMEvalKit writes the verdict into one, and reads it again."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)[:30_000]
