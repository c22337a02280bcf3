"""Mending one record: its id, its characters, the paths of its pictures, their marks, and its ends."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Any, NamedTuple

from ..images.opening import sibling
from ..instructions import IMAGE_TOKEN, as_word, marks, without_last_mark
from ..reading.messages import (
    other_fields,
    other_part_fields,
    picture_parts,
    place_of,
    role_and_text,
    text_key,
    what_is,
    words_of,
)
from ..reading.pictures import inside, is_path, own_keys, own_places
from ..reading.problems import shown
from ..reading.records import messages_key, picture_places
from ..reading.sources import Broken


class Change(NamedTuple):
    """What was done to a record, and to what in it."""

    kind: str
    detail: str = ""


def mend(raw: Any, position: int, images: Path) -> tuple[Any, list[Change]]:
    """A copy of one record with everything mended that can be, and what was done to it.

    A picture that a record names is never taken out of it. What is mended once stays as it is the next time.
    """
    if isinstance(raw, Broken) or not isinstance(raw, dict):
        return raw, []
    done: list[Change] = []
    made = _whole_characters(raw)
    if made != raw:
        done.append(Change("lone surrogates replaced"))
    if made.get("id") is None:
        made = {"id": f"record-{position}", **{key: value for key, value in made.items() if key != "id"}}
        done.append(Change("id given", made["id"]))
    for key in [key for key in own_keys(made) if made[key] is None]:
        del made[key]
        done.append(Change("image: null removed", key))
    for place in picture_places(made):
        if is_path(place.value):
            path, how = _path(place.value, images)
            place.put(path)
            done += how
    messages = made.get(messages_key(made))
    if isinstance(messages, list):
        own, named = _pictures(made)
        done += _mend_marks(messages, own, named)  # before the ends: a question keeps its place by its picture
        done += _cut_ends(messages, own)
        done += _mend_marks(messages, own, named)
    return made, done


def _path(path: str, images: Path) -> tuple[str, list[Change]]:
    done = []
    root = os.path.realpath(images)
    plain = _relative(path.replace("\\", "/"), root)
    if plain != path and inside(plain):
        done.append(Change("path made relative", f"{shown(path)} is now {shown(plain)}"))
        path = plain
    if inside(path) and not os.path.isfile(os.path.join(root, path)) and (other := sibling(images, path)):
        done.append(Change("image found under another name", f"{shown(path)} is now {shown(other)}"))
        path = other
    return path, done


def _relative(path: str, root: str) -> str:
    """A path that is absolute or goes upwards, said from the folder on; as it is where it does not lie in there."""
    folder, name = posixpath.split(path)
    upwards = posixpath.isabs(path) or ".." in path.split("/")
    if "\0" in path or name in ("", ".", "..") or not upwards:
        return path
    # As the system would go: `..` behind a link is beside what the link leads to.
    real = os.path.relpath(os.path.realpath(os.path.join(root, folder)), root)
    if real == ".":
        return name
    return path if real.split("/")[0] == ".." else f"{real}/{name}"


def _pictures(made: dict[str, Any]) -> tuple[int, int]:
    """How many pictures a record has of its own, and how many in its messages; none where that cannot be told."""
    own = list(own_places(made))
    named = picture_places(made)[len(own) :]
    clear = len(own_keys(made)) <= 1 and not (own and named) and all(is_path(place.value) for place in (*own, *named))
    return (len(own), len(named)) if clear else (0, 0)


def _cut_ends(messages: list[Any], own: int) -> list[Change]:
    """Take away answers without a question at the beginning, and questions without an answer at the end."""
    done = []
    start = int(bool(messages) and _role(messages[0]) == "system")
    while len(messages) - start > 2 and _role(messages[start]) == "gpt" and _only_words(messages[start]):
        done.append(Change("answer without a question cut off", shown(_words(messages.pop(start)))))
    while len(messages) - start > 2 and _role(messages[-1]) == "human" and _only_words(messages[-1]):
        if _marks(messages[-1]) and own != 1:  # with one picture the mark can stand elsewhere
            break
        done.append(Change("question without an answer cut off", shown(_words(messages.pop()))))
    return done


def _mend_marks(messages: list[Any], own: int, named: int) -> list[Change]:
    """As many marks as pictures: a part that names its picture is one, the first of the others are the record's own."""
    human = [message for message in messages if _role(message) == "human"]
    if not (own or named) or not human or any(_words(message) is None for message in human):
        return []
    done, marked = [], sum(map(_marks, human))
    while sum(map(_marks, human)) > own + named and any(_take_last(message) for message in reversed(human)):
        pass
    if (left := sum(map(_marks, human))) < marked:
        done.append(Change("surplus <image> taken out", f"{marked - left} of {marked}"))
    missing = own + named - left
    numbered = any(part.get("index") is not None for message in human for part in picture_parts(message))
    if missing > 0 and not numbered:
        _put_in_front(human[0], missing)
        done.append(Change("<image> put in front", f"{missing} more than {left}"))
    return done


def _marks(message: dict[str, Any]) -> int:
    """How many pictures stand in a human's message, as the reader counts them."""
    return len(picture_parts(message)) or marks(_words(message) or "")


def _words(message: dict[str, Any]) -> str | None:
    """The words of a message; None where they cannot be told, or more goes with them that nobody reads."""
    said = role_and_text(message)[1]
    if not isinstance(said, list):
        return said if isinstance(said, str) else None
    pictures = picture_parts(message)
    texts = [part for part in said if not any(part is picture for picture in pictures)]
    if any(words_of(part) is None or other_part_fields(part) for part in texts):
        return None
    return "".join(words_of(part) or "" for part in texts)


def _take_last(message: dict[str, Any]) -> bool:
    """Take out the last mark of a message that names no picture; False where it has none."""
    words, key = _words(message) or "", text_key(message)
    if pictures := picture_parts(message):
        loose = [part for part in pictures if place_of(part) is None and not other_part_fields(part)]
        if not loose:
            return False
        left = [part for part in message[key] if part is not loose[-1]]
        # Without a picture among the parts a mark in their words would be one.
        message[key] = left if len(pictures) > 1 else as_word(words)
        return True
    if marks(words):
        message[key] = without_last_mark(words)
        return True
    return False


def _put_in_front(message: dict[str, Any], missing: int) -> None:
    said, key = message[text_key(message)], text_key(message)
    in_front = f"{IMAGE_TOKEN}\n" * missing
    if isinstance(said, str):
        message[key] = in_front + said
    elif picture_parts(message):
        message[key] = [*({"type": "image"} for _ in range(missing)), *said]
    else:
        message[key] = [{"type": "text", "text": in_front}, *said]


def _only_words(message: dict[str, Any]) -> bool:
    """Whether nothing but words that can be read goes with the message."""
    return not other_fields(message) and not picture_parts(message) and _words(message) is not None


def _role(message: Any) -> str | None:
    return what_is(role_and_text(message)[0])


def _whole_characters(value: Any) -> Any:
    """The same with U+FFFD where half of a character stood."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole_characters(part) for part in value]
    if isinstance(value, dict):
        made: dict[Any, Any] = {}
        for key, part in value.items():
            name = _whole_characters(key)
            while name != key and (name in made or name in value):  # two broken names may become one
                name += "\ufffd"
            made[name] = _whole_characters(part)
        return made
    return value
