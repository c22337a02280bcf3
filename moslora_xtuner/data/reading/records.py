"""One record of LLaVA's JSON: reading it strictly, and naming everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..instructions import IMAGE_TOKEN
from ..problem_kinds import Kind
from .problems import Problem

ROLES = {
    "human": "human",
    "user": "human",
    "gpt": "gpt",
    "assistant": "gpt",
    "chatgpt": "gpt",
    "bing": "gpt",
    "bard": "gpt",
    "system": "system",
}
"""Role names of LLaVA, of ShareGPT's exports and of chat APIs, by what they are here."""
Complain = Callable[[Kind, str], None]


@dataclass(frozen=True)
class Record:
    """A sound record.

    Attributes:
        id: its name.
        images: paths relative to the image folder, in the order of their marks; empty for text alone.
        turns: pairs of the human's and the assistant's words.
        system: the system prompt, empty without one.
    """

    id: str
    images: tuple[str, ...]
    turns: tuple[tuple[str, str], ...]
    system: str = ""


def read_record(
    raw: Any, position: int, *, byte: int | None = None, source: str = "", max_images: int = 1
) -> tuple[Record | None, list[Problem]]:
    """Parse one record; None when anything is wrong, with all its faults and not just the first.

    Roles are LLaVA's (`human`, `gpt`), ShareGPT's or a chat API's (ROLES); messages stand under `conversations` or
    `messages`, as `from` and `value` or `role` and `content`.
    """
    name = record_name(raw)
    problems: list[Problem] = []

    def complain(kind: Kind, detail: str) -> None:
        problems.append(Problem(kind, name, position, detail, byte, source))

    if not isinstance(raw, dict):
        complain(Kind.NOT_AN_OBJECT, f"a {type(raw).__name__}, not a JSON object")
        return None, problems
    if raw.get("id") is None:
        complain(Kind.MISSING_ID, "it has no id")
    images = _images(raw, complain, max_images)
    messages = raw["conversations"] if "conversations" in raw else raw.get("messages")
    system, turns = _turns(messages, complain)
    marks = sum(human.count(IMAGE_TOKEN) for human, _ in turns)
    if images is not None and turns and marks != len(images):
        what = f"{len(images)} image{'s' * (len(images) != 1)}" if images else "no image"
        complain(Kind.IMAGE_TOKEN, f"{what}, but {marks} times {IMAGE_TOKEN} in the human's words")
    if not all(_encodable(text) for text in (name, system, *(images or ()), *(t for turn in turns for t in turn))):
        complain(Kind.BAD_TEXT, "a lone surrogate, which is no character")
    if problems or images is None:
        return None, problems
    return Record(name, images, tuple(turns), system), []


def record_name(raw: Any) -> str:
    """The record's id as text, `?` without one."""
    found = raw.get("id") if isinstance(raw, dict) else None
    return "?" if found is None else str(found)


def _images(raw: dict[str, Any], complain: Complain, most: int) -> tuple[str, ...] | None:
    """The image paths; None when they cannot be told."""
    if "image" not in raw:
        return ()
    value = raw["image"]
    if value is None:
        complain(Kind.IMAGE_IS_NULL, "the image is null")
        return None
    paths = value if isinstance(value, list) else [value]
    if not paths or not all(isinstance(path, str) for path in paths):
        complain(Kind.BAD_IMAGE, f"the image is {_shown(value)}, not a path")
        return None
    if len(paths) > most:
        complain(Kind.TOO_MANY_IMAGES, f"{len(paths)} images, at most {most} taken")
    for path in paths:
        if not inside(path):
            complain(Kind.IMAGE_OUTSIDE_THE_FOLDER, f"{path!r} must be relative and without '..'")
    return tuple(paths)


def _turns(raw: Any, complain: Complain) -> tuple[str, list[tuple[str, str]]]:
    """The system prompt and the turns; no turns where anything is wrong with them."""
    if not isinstance(raw, list) or not raw:
        complain(Kind.EMPTY_CONVERSATION, "it has no list of messages" if not isinstance(raw, list) else "no message")
        return "", []
    system = ""
    turns: list[tuple[str, str]] = []
    human: str | None = None
    for place, message in enumerate(raw):
        given, value = role_and_text(message)
        if not isinstance(value, str):
            complain(Kind.BAD_MESSAGE, f"message {place} has no text")
            return "", []
        role = ROLES.get(given.lower()) if isinstance(given, str) else None
        if role is None:
            complain(Kind.UNKNOWN_ROLE, f"message {place} is from {_shown(given)}")
            return "", []
        if role == "system" and place == 0 and len(raw) > 1:
            system = value
        elif role == "system" or (role == "human") != (human is None):
            complain(Kind.TURN_ORDER, f"message {place} is from {given}: human and gpt must alternate, human first")
            return "", []
        elif role == "human":
            human = value
        else:
            turns.append((human or "", value))
            human = None
    if human is not None:
        complain(Kind.TURN_ORDER, "the last message is the human's: it has no answer to learn")
        return "", []
    return system, turns


def role_and_text(message: Any) -> tuple[Any, Any]:
    """Who says what in one message, as it is written."""
    if not isinstance(message, dict):
        return None, None
    role = message["from"] if "from" in message else message.get("role")
    return role, message["value"] if "value" in message else message.get("content")


def inside(path: str) -> bool:
    """Whether a path is relative and stays under its root by its own words (links are checked on opening)."""
    # No PurePath: it takes as long as all the rest of reading a record.
    return bool(path) and path[0] != "/" and ".." not in path.split("/") and "\\" not in path and "\0" not in path


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
