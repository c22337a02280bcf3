"""The messages of a record: who says what, which of it is learnt, and where pictures stand in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..instructions import IMAGE_TOKEN, as_word
from ..problem_kinds import Kind
from .pictures import Place, blank, path_of, place_in, unread
from .problems import Complain, shown

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
_LOSS = ("loss", "weight", "train")
"""What XTuner, OpenAI and axolotl call the flag that an answer is learnt."""
_ROLE, _WORDS = ("from", "role"), ("value", "content")
"""Under which a message's role and words stand, where the first is not null."""
_TEXT, _PICTURE = ("text", "input_text"), ("image", "image_url", "input_image")
_IN_PART = ("image", "image_url", "path", "url")
"""Under which a part names its picture; without one it takes the record's next, whose number may be its `index`."""


@dataclass
class Conversation:
    """What a record's messages say.

    Attributes:
        system: the system prompt, '' without one.
        turns: pairs of the human's and the assistant's words; none where anything is wrong.
        silent: places of the turns whose answer has no loss.
        paths: of pictures that stand in the messages themselves.
        waiting: how many parts take a picture of the record's own.
    """

    system: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)
    waiting: int = 0


class _Wrong(Exception):
    """A message that cannot be read; it has been complained of."""


def read_messages(raw: Any, complain: Complain, *, pictured: bool) -> Conversation:
    """The conversation; without turns where anything is wrong with it, which is then complained of.

    Args:
        raw: the list of messages.
        complain: takes the problems.
        pictured: whether the record has pictures of its own.
    """
    if not isinstance(raw, list) or not raw:
        complain(Kind.EMPTY_CONVERSATION, "it has no list of messages" if not isinstance(raw, list) else "no message")
        return Conversation()
    made = Conversation()
    human: str | None = None
    try:
        for place, message in enumerate(raw):
            given, role, text, learnt = _message(message, place, made, complain, pictured)
            if role == "system" and place == 0 and len(raw) > 1:
                made.system = text
            elif role == "system" or (role == "human") != (human is None):
                complain(Kind.TURN_ORDER, f"message {place} is from {given}: human and gpt must alternate, human first")
                raise _Wrong
            elif role == "human":
                human = text
            else:
                if learnt is False:
                    made.silent.add(len(made.turns))
                elif not text.strip():
                    complain(Kind.EMPTY_ANSWER, f"message {place} is {shown(text)}")
                made.turns.append((human or "", text))
                human = None
        if human is not None:
            complain(Kind.TURN_ORDER, "the last message is the human's: it has no answer to learn")
            raise _Wrong
    except _Wrong:
        return Conversation()
    return made


def role_and_text(message: Any) -> tuple[Any, Any]:
    """Who says what in one message, as it is written."""
    if not isinstance(message, dict):
        return None, None
    return message.get(_key(message, _ROLE)), message.get(text_key(message))


def text_key(message: dict[str, Any]) -> str:
    """Under which key the words of a message stand."""
    return _key(message, _WORDS)


def what_is(role: Any) -> str | None:
    """What a message's role is here: human, gpt or system; None for a word that is no role."""
    return ROLES.get(role.lower()) if isinstance(role, str) else None


def picture_parts(message: Any) -> list[dict[str, Any]]:
    """The parts of a human's message that are pictures."""
    role, said = role_and_text(message)
    if not isinstance(said, list) or what_is(role) != "human":
        return []
    return [part for part in said if isinstance(part, dict) and part.get("type") in _PICTURE]


def place_of(part: dict[str, Any]) -> Place | None:
    """Where a part names its picture; None for one that takes the record's next."""
    name = _key(part, _IN_PART)
    return None if part.get(name) is None else place_in(part, name)


def words_of(part: Any) -> str | None:
    """What a part says; None for one that is no text."""
    text = part.get("text") if isinstance(part, dict) and part.get("type") in _TEXT else part
    return text if isinstance(text, str) else None


def other_fields(message: dict[str, Any]) -> list[tuple[str, Any]]:
    """What a message brings beside its role, its words and its flags."""
    role, words = _key(message, _ROLE), _key(message, _WORDS)
    return [(k, v) for k, v in message.items() if k != role and k != words and k not in _LOSS and not blank(v)]


def other_part_fields(part: Any) -> list[tuple[str, Any]]:
    """What a part, a text or a picture, brings beside itself."""
    if not isinstance(part, dict):
        return []
    if part.get("type") in _TEXT:
        used = {"type", "text"}
    else:
        used = {"type", "index" if place_of(part) is None else _key(part, _IN_PART)}
    return [(key, value) for key, value in part.items() if key not in used and not blank(value)]


def _key(message: dict[str, Any], names: tuple[str, ...]) -> str:
    for name in names:  # asked of every message of the data: no generator
        if message.get(name) is not None:
            return name
    return names[0]


def _message(
    message: Any, place: int, made: Conversation, complain: Complain, pictured: bool
) -> tuple[str, str, str, bool | None]:
    """Who, what that is here, the words, and whether a flag says that they are learnt."""
    given, value = role_and_text(message)
    role = what_is(given)
    if isinstance(value, list):
        value = _joined(value, place, role, made, complain, pictured)
    if not isinstance(value, str):
        complain(Kind.BAD_MESSAGE, f"message {place} has no text")
        raise _Wrong
    if role is None:
        complain(Kind.UNKNOWN_ROLE, f"message {place} is from {shown(given)}")
        raise _Wrong
    if others := other_fields(message):
        unread(others, complain, pictured=pictured, where=f"message {place}: ")
    return given, role, value, _flag(message, place, role, complain)


def _flag(message: dict[str, Any], place: int, role: str, complain: Complain) -> bool | None:
    """Whether the message is to be learnt; None where it does not say."""
    said = {key: message[key] for key in _LOSS if message.get(key) is not None}
    if not said:
        return None
    values = {bool(value) for value in said.values() if value in (0, 1)}
    if len(values) != 1 or any(value not in (0, 1) for value in said.values()):
        complain(Kind.BAD_MESSAGE, f"message {place} has {shown(said)}: true or false (or 1 or 0), and one of them")
        raise _Wrong
    (learnt,) = values
    if learnt and role != "gpt":
        complain(Kind.BAD_MESSAGE, f"message {place} has {shown(said)}, but only an assistant's words are learnt")
        raise _Wrong
    return learnt


def _joined(
    parts: list[Any], place: int, role: str | None, made: Conversation, complain: Complain, pictured: bool
) -> str | None:
    """The words of a message in parts, with a mark where each picture stands; None where a part cannot be read."""
    pieces: list[tuple[bool, str]] = []
    for part in parts:
        kind = "text" if isinstance(part, str) else part.get("type") if isinstance(part, dict) else None
        if kind in _TEXT:
            text = words_of(part)
            if text is None:
                return None
            if pieces and not pieces[-1][0]:
                text = pieces.pop()[1] + text
            pieces.append((False, text))
        elif kind in _PICTURE and role == "human":
            pieces.append((True, IMAGE_TOKEN))
            _take(part, place, made, complain)
        else:
            what = f"message {place} has a part of the type {shown(kind)}"
            complain(Kind.BAD_MESSAGE if kind is None else Kind.UNREAD_MEDIA, what)
            raise _Wrong
        others, named = other_part_fields(part), pictured or kind in _PICTURE
        unread(others, complain, pictured=named, where=f"message {place}: ", inner=True)
    return "".join(_lined(pieces))


def _take(part: dict[str, Any], place: int, made: Conversation, complain: Complain) -> None:
    """Note the picture that a part names, or that it takes the record's next."""
    named = place_of(part)
    if named is None:
        turn, made.waiting = made.waiting, made.waiting + 1
        if part.get("index") not in (None, turn):
            complain(Kind.BAD_IMAGE, f"message {place} takes picture {shown(part['index'])} where {turn} is the next")
            raise _Wrong
        return
    path = path_of(named, complain)
    if path is None:
        raise _Wrong
    made.paths.append(path)


def _lined(pieces: list[tuple[bool, str]]) -> Iterator[str]:
    """The pieces, each picture's mark on a line of its own; a mark in the words beside it is a word."""
    placed = any(picture for picture, _ in pieces)
    for place, (picture, text) in enumerate(pieces):
        before = pieces[place - 1] if place else None
        if before is not None and (picture or before[0]) and not before[1].endswith("\n"):
            yield "\n"
        yield as_word(text) if placed and not picture else text
