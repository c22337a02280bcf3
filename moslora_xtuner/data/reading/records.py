"""One record of LLaVA's JSON: reading it strictly, and naming everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..instructions import IMAGE_TOKEN, marks
from ..problem_kinds import Kind
from .messages import picture_parts, place_of, read_messages
from .pictures import Place, checked, images_of, own_keys, own_places, unread
from .problems import Problem

_MESSAGES = ("conversations", "messages")


@dataclass(frozen=True)
class Record:
    """A sound record.

    Attributes:
        id: its name.
        images: paths relative to the image folder, in the order of their marks; empty for text alone.
        turns: pairs of the human's and the assistant's words.
        system: the system prompt, empty without one.
        silent: places of the turns whose answer has no loss.
    """

    id: str
    images: tuple[str, ...]
    turns: tuple[tuple[str, str], ...]
    system: str = ""
    silent: frozenset[int] = frozenset()


def read_record(
    raw: Any, position: int, *, byte: int | None = None, source: str = "", max_images: int = 1
) -> tuple[Record | None, list[Problem]]:
    """Parse one record; None when anything is wrong, with all its faults and not just the first, and all remarks.

    Roles are LLaVA's (`human`, `gpt`), ShareGPT's or a chat API's (messages.ROLES); messages stand under
    `conversations` or `messages`, as `from` and `value` or `role` and `content`, a text or a list of parts. Pictures
    stand under `image`, `images` or `image_path`, or in the parts. A system prompt is a first message or the record's
    own `system`. A message's `loss` (`weight`, `train`) of 0 takes its answer out of the loss.
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
    images = images_of(raw, complain, max_images)
    said = read_messages(raw.get(messages_key(raw)), complain, pictured=bool(images))
    if images is not None and said.paths:
        if images:
            complain(Kind.BAD_IMAGE, "pictures stand in the record and in its messages: one place is enough")
        images = checked(said.paths, complain, max_images)
    system = said.system
    if isinstance(raw.get("system"), str) and raw["system"]:
        if system:
            complain(Kind.BAD_MESSAGE, "a system prompt stands in the record and in its first message")
        system = raw["system"]
    elif raw.get("system") not in (None, ""):
        complain(Kind.BAD_MESSAGE, f"the system prompt is a {type(raw['system']).__name__}, not a text")
    used = {"id", "system", messages_key(raw), *own_keys(raw)}
    others = [(key, value) for key, value in raw.items() if key not in used or (key == "id" and not _is_name(value))]
    unread(others, complain, pictured=bool(images))
    count = sum(marks(human) for human, _ in said.turns)
    if images is not None and said.turns and count != len(images):
        what = f"{len(images)} image{'s' * (len(images) != 1)}" if images else "no image"
        complain(Kind.IMAGE_TOKEN, f"{what}, but {count} times {IMAGE_TOKEN} in the human's words")
    if not all(_encodable(text) for text in (name, system, *(images or ()), *(t for turn in said.turns for t in turn))):
        complain(Kind.BAD_TEXT, "a lone surrogate, which is no character")
    if images is None or any(problem.fault for problem in problems):
        return None, problems
    return Record(name, images, tuple(said.turns), system, frozenset(said.silent)), problems


def _is_name(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def messages_key(raw: dict[str, Any]) -> str:
    """Under which key a record's messages stand."""
    return next((key for key in _MESSAGES if raw.get(key) is not None), _MESSAGES[0])


def picture_places(raw: dict[str, Any]) -> Iterator[Place]:
    """Every place of a record where the path of a picture stands: its own, and then those in its messages' parts."""
    yield from own_places(raw)
    messages = raw.get(messages_key(raw))
    for message in messages if isinstance(messages, list) else ():
        for part in picture_parts(message):
            if (place := place_of(part)) is not None:
                yield place


def record_name(raw: Any) -> str:
    """The record's id as text, `?` without one."""
    found = raw.get("id") if isinstance(raw, dict) else None
    return "?" if found is None else str(found)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
