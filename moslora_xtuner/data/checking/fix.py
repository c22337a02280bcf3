"""A corrected copy of records: what can be mended is, what cannot is left out, and all of it is said."""

from __future__ import annotations

import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...atomic import atomic_file
from ...errors import OutputError, UsageError
from ..images.opening import sibling
from ..instructions import IMAGE_TOKEN
from ..reading.messages import ROLES, role_and_text
from ..reading.sources import Broken, Source
from .check import CHUNK, Progress
from .worker import Examiner, Rules


@dataclass
class Mended:
    """What a corrected copy is.

    Attributes:
        path: the copy.
        changes: beside it, every change and every record that was left out, one JSON a line.
        records: in the copy.
        changed: of them, how many differ from the original.
        left_out: records that could not be mended.
        kinds: how often what was done.
    """

    path: Path
    changes: Path
    records: int = 0
    changed: int = 0
    left_out: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        """What was done, by kind."""
        lines = [f"{self.path}: {self.records} records, {self.changed} of them changed, {self.left_out} left out"]
        lines += [f"  {kind}: {count}" for kind, count in self.kinds.most_common()]
        return "\n".join([*lines, f"  each of them: {self.changes}"])


def mend_all(source: Source, rules: Rules, out: Path, progress: Progress | None = None) -> Mended:
    """Write the corrected copy: `.jsonl` with a record a line, any other name as a JSON list.

    Raises:
        OutputError: `out` exists or cannot be written.
        UsageError: `out` is the source.
    """
    if out.exists():
        if out.resolve() == source.reader.path.resolve():
            raise UsageError(f"{out} is the file to be mended: give the copy another name")
        raise OutputError(f"{out} exists: give the corrected copy another name")
    made = Mended(out, out.with_name(f"{out.name}.changes.jsonl"))
    lines = out.suffix.lower() == ".jsonl"
    # What the check before this has decoded is not decoded again.
    examiner = Examiner(rules.remembering())
    with atomic_file(out) as copy, atomic_file(made.changes) as log:
        copy.write("" if lines else "[")
        for chunk in source.reader.chunks(CHUNK):
            for entry in source.reader.read(chunk):
                if not entry.lost:
                    made.kinds["comma or bracket mended"] += 1
                    continue
                raw, done = mend(entry.raw, entry.position, rules.images)
                record, problems = examiner.judge(replace(entry, raw=raw), source.name)
                if record is None:
                    made.left_out += 1
                    faults = [problem for problem in problems if problem.fault]
                    made.kinds[f"left out: {faults[0].kind}"] += 1
                    _log(log, "left out", (fault.as_json() for fault in faults))
                    continue
                copy.write(("\n" if lines else ",\n") if made.records else ("" if lines else "\n"))
                copy.write(json.dumps(raw, ensure_ascii=False))
                made.records += 1
                made.changed += bool(done)
                made.kinds.update(done)
                at = {"record": record.id, "position": entry.position, "byte": entry.byte, "source": source.name}
                _log(log, "changed", ({"kind": kind, "detail": "", **at} for kind in done))
            if progress is not None:
                progress(made.records + made.left_out, made.records + made.left_out)
        copy.write("\n" if lines else "\n]\n")
    return made


def mend(raw: Any, position: int, images: Path) -> tuple[Any, list[str]]:
    """A copy of one record with everything mended that can be, and what was done to it."""
    if isinstance(raw, Broken) or not isinstance(raw, dict):
        return raw, []
    done: list[str] = []
    made = _whole_characters(raw)
    if made != raw:
        done.append("lone surrogates replaced")
    if made.get("id") is None:
        made = {"id": f"record-{position}", **{key: value for key, value in made.items() if key != "id"}}
        done.append("id given")
    if "image" in made and made["image"] is None:
        del made["image"]
        done.append("image: null removed")
    if isinstance(made.get("image"), str):
        path, how = _path(made["image"], images)
        made["image"] = path
        done += how
    key = "conversations" if "conversations" in made else "messages"
    if isinstance(made.get(key), list):
        made[key], how = _messages(made[key], isinstance(made.get("image"), str))
        done += how
    return made, done


def _path(path: str, images: Path) -> tuple[str, list[str]]:
    done = []
    root = os.path.realpath(images)
    plain = path.replace("\\", "/")
    if posixpath.isabs(plain):
        # Only what lies in the folder can be said relative to it.
        plain = os.path.relpath(plain, root) if os.path.normpath(plain).startswith(root + os.sep) else plain
    plain = posixpath.normpath(plain) if ".." in plain.split("/") else plain
    if plain != path and not plain.startswith("../") and not posixpath.isabs(plain):
        done.append("path made relative")
        path = plain
    if not posixpath.isabs(path) and ".." not in path.split("/") and "\0" not in path:
        there = os.path.isfile(os.path.join(root, path))
        if not there and (other := sibling(images, path)):
            done.append("image found under another name")
            path = other
    return path, done


def _messages(messages: list[Any], image: bool) -> tuple[list[Any], list[str]]:
    done = []
    made = list(messages)
    start = int(bool(made) and _role(made[0]) == "system")
    while len(made) - start > 2 and _role(made[start]) == "gpt":
        del made[start]
        done.append("answer without a question cut off")
    while len(made) - start > 2 and _role(made[-1]) == "human":
        del made[-1]
        done.append("question without an answer cut off")
    human = [place for place, message in enumerate(made) if _role(message) == "human" and _text(message) is not None]
    marks = sum(str(_text(made[place])).count(IMAGE_TOKEN) for place in human)
    if image and human and marks == 0:
        made[human[0]] = _say(made[human[0]], f"{IMAGE_TOKEN}\n{_text(made[human[0]])}")
        done.append("<image> put in front")
    elif image and marks > 1:
        left = 1
        for place in human:
            head, *tail = str(_text(made[place])).split(IMAGE_TOKEN)
            if tail:
                made[place] = _say(made[place], head + IMAGE_TOKEN * left + "".join(tail))
                left = 0
        done.append("<image> kept once")
    return made, done


def _role(message: Any) -> str | None:
    role = role_and_text(message)[0]
    return ROLES.get(role.lower()) if isinstance(role, str) else None


def _text(message: Any) -> str | None:
    text = role_and_text(message)[1]
    return text if isinstance(text, str) else None


def _say(message: dict[str, Any], text: str) -> dict[str, Any]:
    return {**message, ("value" if "value" in message else "content"): text}


def _whole_characters(value: Any) -> Any:
    """The same with U+FFFD where half of a character stood."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole_characters(part) for part in value]
    if isinstance(value, dict):
        return {_whole_characters(key): _whole_characters(part) for key, part in value.items()}
    return value


def _log(log: Any, done: str, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        log.write(json.dumps({"done": done, **row}, ensure_ascii=False) + "\n")
