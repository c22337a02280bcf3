"""Whether words decline to answer: "I can't help with that" names no option, though an I or an A stands in it."""

from __future__ import annotations

import re

_ABLE = r"(?:can['\u2019]?t|cannot|can not|could(?: not|n['\u2019]t)|(?:un|not )able to)"
_DO = (
    r"(?:help|assist|determin\w*|answer|see|tell|identify|process|view|read|provide|comply|access|open|recogni[sz]e|"
    r"say|know|do that|be (?:determined|answered))"
)
_ANYWHERE = re.compile(rf"\b{_ABLE}\b[^.;!?\n]{{0,60}}\b{_DO}\b", re.IGNORECASE)
_AT_START = re.compile(
    rf"^\W*(?:sorry\b|i['\u2019]?m sorry\b|i am sorry\b|i apologi[sz]e\b|as an ai\b|unfortunately\b|"
    rf"i (?:{_ABLE}|won['\u2019]t|will not|do not|don['\u2019]t know|have no)\b|i['\u2019]?m {_ABLE}|"
    rf"i am {_ABLE}|{_ABLE}\b|抱歉|对不起|很遗憾|我?无法|我不能|不能(?:回答|确定)|我看不)",
    re.IGNORECASE,
)
_CLAUSES = re.compile(r"[.,;:!?\n。，；：！？]+|\bbut\b|但是?")


def declines(text: str) -> bool:
    """Whether something in the text says that it gives no answer."""
    return bool(_AT_START.search(text) or _ANYWHERE.search(text))


def what_is_left(text: str) -> str:
    """The text without the clauses that decline: "I cannot see it, but the answer is B" leaves "the answer is B".

    All of it where none declines, nothing where all do.
    """
    if not declines(text):
        return text
    kept = [part for part in _CLAUSES.split(text) if part.strip() and not declines(part)]
    return ". ".join(part.strip() for part in kept)
