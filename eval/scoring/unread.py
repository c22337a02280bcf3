"""Which answers say nothing that could be scored: our count, beside VLMEvalKit's rule, which alone decides the score.

It takes "Cannot determine the answer" for the option Z, and the I of "I can't" for the option I: wrong, or right by
luck. Here both are unread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..judges.reading import NO_OPTION
from ..judges.refusals import declines, what_is_left
from ..tasks.prompts import options


def choice(row: Mapping[str, Any]) -> bool:
    """Whether an answer names no option: nothing, a refusal, a letter that is none."""
    from vlmeval.utils import can_infer

    text, shown = str(row["prediction"]), options(row)
    found = can_infer(text, dict(shown))
    if not found or (found == NO_OPTION and found not in shown):
        return True
    if not declines(text) or str(shown.get(found, "")).lower() in text.lower():  # an option may say so itself
        return False
    # The A or the I of a sentence is no letter.
    left = re.sub(r"\b[AI](?=['\u2019\s]+[a-z])", " ", what_is_left(text))
    return not can_infer(left, dict(shown))


def yes_no(row: Mapping[str, Any]) -> bool:
    """Whether an answer is neither yes nor no in the end: `extracted` is what VLMEvalKit or its judge made of it."""
    if row["extracted"] == "Unknown":
        return True
    text = str(row["prediction"])
    return declines(text) and not re.search(r"(?:^|[.,;:!?]\s*)(?:yes|no)\b", text, re.IGNORECASE)


def words(text: str) -> bool:
    """Whether an answer in words is none: nothing, or a refusal."""
    return not what_is_left(text).strip()
