"""Which pictures a record brings, and whether it brings any that would not be seen, or a sound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..problem_kinds import Kind
from .problems import Complain, shown

KEYS = frozenset({"image", "images", "image_path", "image_paths"})
"""Under which a record's pictures may stand, in any case of letters."""
_SOUND = re.compile(r"video|movie|audio|sound|speech|voice|music|media", re.I)
_PICTURE = re.compile(r"image|img|pict|photo|pixel|frames?$", re.I)
_FILE = re.compile(
    r"\S+\.(jpe?g|png|gif|webp|bmp|tiff?|avif|heic|jp2|mp4|m4v|avi|mov|mkv|webm|mp3|wav|flac|ogg|m4a|aac)",
    re.I,
)
_INLINE = re.compile(r"data:(image|video|audio)/|/9j/4|iVBORw0KGgo|R0lGODlh|UklGR")
"""A data address, or how base64 of a JPEG, PNG, GIF, WEBP or WAV begins."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:(//|(image|video|audio)/)", re.I)


def images_of(raw: dict[str, Any], complain: Complain, most: int) -> tuple[str, ...] | None:
    """The paths of a record's pictures; None when they cannot be told, which is then complained of."""
    found = [key for key in raw if key.lower() in KEYS]
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
    several = isinstance(value, list)
    if several and not value and key.lower() in ("images", "image_paths"):
        return ()  # how a table's row says that it has none
    if several and not value:
        complain(Kind.BAD_IMAGE, f"the {key} is [], not a path")
        return None
    paths = [path_of(item, complain) for item in (value if several else [value])]
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


def path_of(value: Any, complain: Complain) -> str | None:
    """One picture as a path: a text, or a struct with `path`; None, complained of, for all else."""
    if isinstance(value, dict) and value.get("bytes") is None:
        value = next((value[key] for key in ("path", "image", "url") if value.get(key) is not None), value)
    if isinstance(value, dict) and value.get("bytes") is not None:
        complain(Kind.BAD_IMAGE, "the picture's bytes stand in the record: write them to a file, and its path here")
    elif not isinstance(value, str):
        complain(Kind.BAD_IMAGE, f"the image is {shown(value)}, not a path")
    elif _ADDRESS.match(value) or _INLINE.match(value):
        complain(Kind.BAD_IMAGE, f"the image is {shown(value)}, not a path: write it to a file in the image folder")
    else:
        return value
    return None


def inside(path: str) -> bool:
    """Whether a path is relative and stays under its root by its own words (links are checked on opening)."""
    # No PurePath: it takes as long as all the rest of reading a record.
    return bool(path) and path[0] != "/" and ".." not in path.split("/") and "\\" not in path and "\0" not in path


def unread(fields: Iterator[tuple[str, Any]], complain: Complain, *, pictured: bool) -> None:
    """Complain of what nobody reads: a remark, or a fault where a picture or a sound would be lost.

    Args:
        fields: names and values that nothing uses.
        complain: takes the problem.
        pictured: whether the record has pictures that are used; then the name alone makes no further one.
    """
    for name, value in fields:
        if value is None or value in ("", [], {}):
            continue
        named = bool(_SOUND.search(name)) or (bool(_PICTURE.search(name)) and not pictured)
        media = _is_media(value) or (named and not isinstance(value, bool | int | float))
        complain(Kind.UNREAD_MEDIA if media else Kind.UNUSED_FIELD, f"{shown(name)} is {shown(value)}")


def _is_media(value: Any, depth: int = 3) -> bool:
    if isinstance(value, str):
        # No text of a person: a path has no blanks, and the whole of it is looked at.
        return bool(_INLINE.match(value)) or (len(value) < 1000 and bool(_FILE.fullmatch(value)))
    if isinstance(value, dict):
        return value.get("bytes") is not None or (depth > 0 and any(_is_media(v, depth - 1) for v in value.values()))
    return isinstance(value, list) and depth > 0 and any(_is_media(item, depth - 1) for item in value[:20])
