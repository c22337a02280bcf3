"""One record of LLaVA's JSON: reading it strictly, and naming everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .instructions import IMAGE_TOKEN


@dataclass(frozen=True)
class Problem:
    """Something wrong with one record."""

    kind: str
    record: str
    position: int
    detail: str

    def __str__(self) -> str:
        return f"record {self.position} (id {self.record}): {self.kind}: {self.detail}"


@dataclass(frozen=True)
class Record:
    """A sound record: its turns as (human, assistant), and its image as a path relative to the image folder."""

    id: str
    image: str | None
    turns: tuple[tuple[str, str], ...]


def read_record(raw: Any, position: int) -> tuple[Record | None, list[Problem]]:
    """Parse one record; None when anything is wrong, with all its problems and not just the first."""
    if not isinstance(raw, dict):
        return None, [Problem("not an object", "?", position, f"a {type(raw).__name__}, not a JSON object")]
    name = "?" if raw.get("id") is None else str(raw["id"])
    problems: list[Problem] = []

    def complain(kind: str, detail: str) -> None:
        problems.append(Problem(kind, name, position, detail))

    if "id" not in raw or raw["id"] is None:
        complain("missing id", "every record needs an id")
    image = raw.get("image")
    if image is not None and not isinstance(image, str):
        complain("bad image", f"the image must be one path, not a {type(image).__name__}")
        image = None
    elif "image" in raw and image is None:
        complain("image is null", "leave the key out for a text-only record")
    elif image is not None and not inside(image):
        complain("image outside the folder", f"{image!r} must be relative and without '..'")
    turns = _turns(raw.get("conversations"), complain)
    marks = sum(human.count(IMAGE_TOKEN) for human, _ in turns)
    if image is not None and marks != 1:
        complain("image token", f"an image, but {marks} times {IMAGE_TOKEN} in the human's turns (want 1)")
    elif image is None and marks:
        complain("image token", f"{marks} times {IMAGE_TOKEN}, but no image")
    if problems:
        return None, problems
    return Record(name, image, tuple(turns)), []


def _turns(raw: Any, complain: Any) -> list[tuple[str, str]]:
    if not isinstance(raw, list) or not raw:
        complain("empty conversation", "conversations must be a list with at least two messages")
        return []
    turns: list[tuple[str, str]] = []
    human: str | None = None
    for place, message in enumerate(raw):
        role = message.get("from") if isinstance(message, dict) else None
        value = message.get("value") if isinstance(message, dict) else None
        if not isinstance(value, str):
            complain("bad message", f"message {place} has no text")
            return []
        if role not in ("human", "gpt"):
            complain("unknown role", f"message {place} is from {role!r}, not human or gpt")
            return []
        if (role == "human") != (human is None):
            complain("turn order", f"message {place} is from {role}: human and gpt must alternate, human first")
            return []
        if role == "human":
            human = value
        else:
            turns.append((human or "", value))
            human = None
    if human is not None:
        complain("turn order", "the last message is from human: it has no answer to learn")
        return []
    return turns


def inside(path: str) -> bool:
    """Whether a path is relative and stays under its root by its own words (links are checked on opening)."""
    pure = PurePosixPath(path)
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in path


def iterate_json(path: Path) -> Iterator[Any]:
    """The records of a `.json` array or a `.jsonl` file, in order.

    Raises:
        DataError: the file is missing, is not JSON, or its top is not a list.
    """
    from ..errors import DataError

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise DataError(f"cannot read {path} ({fault.strerror}): give the path of a LLaVA JSON") from fault
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not UTF-8 at byte {fault.start}: convert it") from fault
    if path.suffix == ".jsonl":
        # Only "\n" ends a line: splitlines would also cut a string at U+2028.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield _parse(line, path, number)
        return
    data = _parse(text, path, 1)
    if not isinstance(data, list):
        raise DataError(f"{path} holds a {type(data).__name__}: a list of records is wanted")
    yield from data


def _parse(text: str, path: Path, first_line: int) -> Any:
    import json

    from ..errors import DataError

    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        line = first_line + fault.lineno - 1
        raise DataError(f"{path} is not JSON at line {line}, column {fault.colno}: {fault.msg}") from fault
