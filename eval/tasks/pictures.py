"""A row's picture: from its base64 text, however that was written, or from the file that its path names."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from .values import value

REFERENCE = 64
"""VLMEvalKit takes a cell `image` of at most so many characters for the index of the row that holds the picture."""


def decode(text: str) -> bytes:
    """The bytes of a base64 text: broken into lines or not, alone, as a data URI, or as the one element of a list.

    Raises ValueError saying what it is instead.
    """
    found = _one(text)
    if found[:5].lower() == "data:":
        head, comma, found = found.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise ValueError("a data URI without ;base64,")
    try:
        return base64.b64decode("".join(found.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"no base64 text ({str(error).rstrip('.')})") from error


def plain(text: str) -> str:
    """The same text as VLMEvalKit reads it: base64 alone, in one line. What is none stays as it is."""
    if text[:5].lower() != "data:" and not any(sign in text for sign in " \t\r\n"):
        return text
    try:
        return base64.b64encode(decode(text)).decode()
    except ValueError:
        return text


def locate(name: str, data_root: Path | None, dataset: str) -> Path:
    """The file that `image_path` names: as it stands, or in the folders where VLMEvalKit keeps a benchmark's pictures.

    Raises ValueError where there is none, or where the cell is a list of several.
    """
    path = _one(name)
    beside = [] if data_root is None else [data_root / "images" / folder / path for folder in _folders(dataset)]
    for candidate in (Path(path), *beside):
        try:
            if candidate.is_file():
                return candidate
        except (OSError, ValueError):  # a name that is too long for a file, or holds a zero byte
            break
    places = ", ".join(str(place.parent) for place in beside[:1])
    short = path if len(path) <= 100 else f"{path[:97]}..."
    raise ValueError(f"the image file {short} does not exist" + (f" (nor in {places})" if places else ""))


def _folders(dataset: str) -> tuple[str, ...]:
    """Under images/: the name that VLMEvalKit gives a family of tables (image_base.py: img_root_map), and their own."""
    if dataset.startswith("MMBench_"):
        family = "MMBench_V11" if dataset.endswith("_V11") else "MMBench"
    else:
        family = "OCRVQA" if dataset.startswith("OCRVQA") else dataset
    return tuple(dict.fromkeys((family, dataset)))


def _one(cell: str) -> str:
    """A cell, or the only element where it is a list. Raises ValueError for several."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return text
    found = value(text)
    if found is None:
        raise ValueError("it begins like a list and is none")
    if not isinstance(found, list) or len(found) != 1:
        raise ValueError("several images in one question are not supported")
    return str(found[0])


def check(content: bytes) -> None:
    """Decode a picture as it will be when it is asked about. Raises DataError where it cannot be."""
    from moslora_xtuner.data.images.opening import from_bytes

    from_bytes(content, draft=True)
