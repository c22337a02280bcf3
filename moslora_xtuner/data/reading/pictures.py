"""Which pictures a record brings, and whether it brings any that would not be seen, or a sound."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..problem_kinds import Kind
from .problems import Complain, shown

KEYS = frozenset({"image", "images", "image_path", "image_paths"})
"""Under which a record's pictures may stand, in any case of letters."""
_SOUND = re.compile(r"video|movie|audio|sound|speech|voice|music|media", re.I)
_PICTURE = re.compile(r"image|img|pict|photo|pixel|frames?$", re.I)
_FILE = re.compile(
    r"\S+\.(jpe?g|png|gif|webp|bmp|tiff?|avif|heic|jp2|mp4|m4v|avi|mov|mkv|webm|mp3|wav|flac|ogg|m4a|aac)([?#]\S*)?",
    re.I,
)
_INLINE = re.compile(r"data:(image|video|audio)/|/9j/4|iVBORw0KGgo|R0lGODlh|UklGR")
"""A data address, or how base64 of a JPEG, PNG, GIF, WEBP or WAV begins."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:(//|(image|video|audio)/)", re.I)
_PART = re.compile(r"(?:input_)?(image|video|audio)(?:_url)?")
"""What a part of a message says of its type."""
_IN_STRUCT = ("path", "image", "url")
"""Under which a struct names its picture."""


@dataclass(frozen=True)
class Place:
    """Where one picture is named: `holder[key]`.

    Attributes:
        holder: the record, a list or a struct in it.
        key: of the holder.
        struct: whether the holder is a struct that says nothing but which picture it is.
    """

    holder: Any
    key: Any
    struct: bool = False

    @property
    def value(self) -> Any:
        """What stands there: a path, where the record is sound."""
        return self.holder[self.key]

    def put(self, path: str) -> None:
        """Write another path there."""
        self.holder[self.key] = path


def place_in(holder: Any, key: Any) -> Place:
    """Where the path itself stands: at the key, or in a struct there that brings no bytes."""
    value = holder[key]
    if isinstance(value, dict) and value.get("bytes") is None:
        name = next((name for name in _IN_STRUCT if value.get(name) is not None), None)
        if name is not None:
            return Place(value, name, struct=True)
    return Place(holder, key)


def own_places(raw: dict[str, Any]) -> Iterator[Place]:
    """Every place where a record names a picture outside of its messages, in order."""
    for key in own_keys(raw):
        if isinstance(raw[key], list):
            yield from (place_in(raw[key], number) for number in range(len(raw[key])))
        else:
            yield place_in(raw, key)


def own_keys(raw: dict[str, Any]) -> list[str]:
    """Under which of its keys a record's pictures stand; more than one is a fault."""
    return [key for key in raw if key.lower() in KEYS]


def images_of(raw: dict[str, Any], complain: Complain, most: int) -> tuple[str, ...] | None:
    """The paths of a record's pictures; None when they cannot be told, which is then complained of."""
    found = own_keys(raw)
    if not found:
        return ()
    if len(found) > 1:
        complain(Kind.BAD_IMAGE, f"pictures stand under {' and under '.join(found)}: one place is enough")
        return None
    (key,) = found
    value = raw[key]
    if value is None:
        complain(Kind.IMAGE_IS_NULL, f"the {key} is null")
        return None
    if value == [] and key.lower() in ("images", "image_paths"):
        return ()  # how a table's row says that it has none
    if value == []:
        complain(Kind.BAD_IMAGE, f"the {key} is [], not a path")
        return None
    paths = [path_of(place, complain) for place in own_places(raw)]
    if any(path is None for path in paths):
        return None
    return checked([path for path in paths if path is not None], complain, most)


def checked(paths: list[str], complain: Complain, most: int) -> tuple[str, ...]:
    """The paths, after a look at how many they are and where they lead."""
    if len(paths) > most:
        complain(Kind.TOO_MANY_IMAGES, f"{len(paths)} images, at most {most} taken")
    for path in paths:
        if not inside(path):
            complain(Kind.IMAGE_OUTSIDE_THE_FOLDER, f"{shown(path)} must be relative and without '..'")
    return tuple(paths)


def path_of(place: Place, complain: Complain) -> str | None:
    """One picture as a path; None, complained of, for all else."""
    value = place.value
    if place.struct:
        others = ((name, item) for name, item in place.holder.items() if name != place.key)
        unread(others, complain, pictured=True, where="beside a picture: ", inner=True)
    if isinstance(value, dict) and value.get("bytes") is not None:
        complain(Kind.BAD_IMAGE, "the picture's bytes stand in the record: write them to a file, and its path here")
    elif not isinstance(value, str):
        complain(Kind.BAD_IMAGE, f"the image is {shown(value)}, not a path")
    elif not is_path(value):
        complain(Kind.BAD_IMAGE, f"the image is {shown(value)}, not a path: write it to a file in the image folder")
    else:
        return value
    return None


def is_path(value: Any) -> bool:
    """Whether this is the path of a file, and no address and no picture written out."""
    return isinstance(value, str) and not _ADDRESS.match(value) and not _INLINE.match(value)


def inside(path: str) -> bool:
    """Whether a path is relative and stays under its root by its own words (links are checked on opening)."""
    # No PurePath: it takes as long as all the rest of reading a record.
    return bool(path) and path[0] != "/" and ".." not in path.split("/") and "\\" not in path and "\0" not in path


def unread(
    fields: Iterable[tuple[str, Any]], complain: Complain, *, pictured: bool, where: str = "", inner: bool = False
) -> None:
    """Complain of what nobody reads: a remark, or a fault where a picture or a sound would be lost.

    Args:
        fields: names and values that nothing uses.
        complain: takes the problem.
        pictured: whether the record has pictures that are used; then the name alone makes no further one.
        where: stands before the names.
        inner: whether they are fields of a part, in which `type` says what it is.
    """
    for name, value in fields:
        if not blank(value):
            media = _is_media(name, value, pictured, inner)
            complain(Kind.UNREAD_MEDIA if media else Kind.UNUSED_FIELD, f"{shown(where + name)} is {shown(value)}")


def blank(value: Any) -> bool:
    """Whether a field says nothing: null, or empty."""
    return value is None or (isinstance(value, str | list | dict) and not value)


def _is_media(name: str, value: Any, pictured: bool, inner: bool) -> bool:
    """Whether a field, or anything in it at any depth, is or names a picture or a sound."""
    todo = [(name, value, inner)]
    while todo:  # no recursion: a record may be nested as deeply as Python can read it
        name, value, inner = todo.pop()
        if blank(value) or isinstance(value, bool | int | float):
            continue
        if _says_media(name, value, pictured, inner):
            return True
        if isinstance(value, dict):
            todo += ((key, item, True) for key, item in value.items())
        elif isinstance(value, list):
            todo += ((name, item, inner) for item in value)
    return False


def _says_media(name: str, value: Any, pictured: bool, inner: bool) -> bool:
    if name == "bytes" or _SOUND.search(name) or (not pictured and _PICTURE.search(name)):
        return True
    if not isinstance(value, str):
        return isinstance(value, bytes | bytearray) or type(value).__module__.startswith("PIL.")  # of a table
    if inner and name == "type" and (part := _PART.fullmatch(value)):
        return not pictured or part[1] != "image"
    # No text of a person: a path has no blanks, and the whole of it is looked at.
    return bool(_INLINE.match(value)) or (len(value) < 1000 and bool(_FILE.fullmatch(value)))
