"""Sound records in every form that the reader reads, and what can happen to them: for tests that fuzz.

A strategy's records name pictures of `picture_folder`, and so it is known what a reading must bring.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

PICTURES = ["a.png", "deep/b.jpg", "Ärger/é.png"]
ELSEWHERE = ["clip.mp4", "voice.wav", "https://example.org/a.jpg?size=3", "data:image/png;base64,AAAA", "iVBORw0KGgoAA"]
"""What no text of a person is, and no path of a picture either."""
_WORDS = {"id", "value", "content", "text", "system"}
"""Under which a text is words, whatever it looks like."""
_NAMES = [
    "image", "images", "Image", "image_path", "image_paths", "IMAGES", "video", "audio", "img", "extra", "file", "path",
    "url", "bytes", "type", "index", "text", "from", "role", "value", "content", "loss", "weight", "train", "system",
    "conversations", "messages", "id", "meta",
]  # fmt: skip


def picture_folder(root: Path) -> Path:
    """A folder with PICTURES, and beside it one that is no one's business."""
    for name in PICTURES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(root / name)
    (root.parent / "outside").mkdir(exist_ok=True)
    Image.new("RGB", (3, 2)).save(root.parent / "outside" / "c.png")
    return root


def _struct(draw: st.DrawFn, path: str) -> Any:
    forms: list[Any] = [path, path, {"path": path}, {"path": path, "bytes": None}, {"image": path}, {"url": path}]
    return draw(st.sampled_from(forms))


@st.composite
def records(draw: st.DrawFn) -> tuple[dict[str, Any], list[str]]:
    """A sound record and its pictures, at most three."""
    pictures = draw(st.lists(st.sampled_from(PICTURES), max_size=3))
    turns = draw(st.integers(1, 3))
    where = sorted(draw(st.integers(0, turns - 1)) for _ in pictures)
    in_parts = bool(pictures) and draw(st.booleans())
    names = draw(st.sampled_from([("from", "value", "human", "gpt"), ("role", "content", "user", "assistant")]))
    raw: dict[str, Any] = {"id": draw(st.sampled_from(["r", 7, "é"]))}
    if pictures and not in_parts:
        several = [_struct(draw, path) for path in pictures]
        key = draw(st.sampled_from(["image", "images", "Image", "image_path", "image_paths"]))
        raw[key] = several[0] if len(several) == 1 and draw(st.booleans()) else several
    messages: list[dict[str, Any]] = []
    system = draw(st.sampled_from(["", "own", "first"]))
    if system == "first":
        messages.append({names[0]: "system", names[1]: "Be brief."})
    elif system:
        raw["system"] = "Be brief."
    left = list(pictures)
    for turn in range(turns):
        here = [left.pop(0) for _ in range(where.count(turn))]
        messages.append({names[0]: names[2], names[1]: _question(draw, here, in_parts)})
        flag = draw(st.sampled_from([{}, {}, {"loss": False}, {"loss": True}, {"weight": 0}, {"train": True}]))
        answer: Any = draw(st.sampled_from(["A", "A \\<image>", [{"type": "text", "text": "A"}]]))
        messages.append({names[0]: names[3], names[1]: answer, **flag})
    raw[draw(st.sampled_from(["conversations", "messages"]))] = messages
    return raw, pictures


def _question(draw: st.DrawFn, pictures: list[str], in_parts: bool) -> Any:
    """A human's words with the pictures of this turn: marks in a text, or parts."""
    words = draw(st.sampled_from(["What?", "The word \\<image>.", ""]))
    if not in_parts and draw(st.booleans()):
        return "<image>\n" * len(pictures) + words
    parts: list[Any] = [{"type": "text", "text": words}] if draw(st.booleans()) else [words]
    for path in pictures:
        part: dict[str, Any] = {"type": draw(st.sampled_from(["image", "input_image"]))}
        if in_parts:
            forms: list[dict[str, Any]] = [{"image": path}, {"path": path}, {"image": {"path": path}}, {"url": path}]
            part |= draw(st.sampled_from([*forms, {"type": "image_url", "image_url": {"url": path}}]))
        parts.insert(draw(st.integers(0, len(parts))) if len(pictures) == 1 else len(parts), part)
    return parts


def junk(dice: random.Random) -> Any:
    """A value that may stand anywhere."""
    value: Any = dice.choice([
        None, True, 0, 1, -1.5, "", "Q", "<image>", "\\<image>", "half \ud83d", [], {}, ["Q"], [None], 10**30, "user",
        "image", "audio", "text", *PICTURES, "../outside/c.png", "/etc/passwd", "C:\\a.png", *ELSEWHERE, *ELSEWHERE,
        {"type": "image"}, {"type": "image", "image": "a.png"}, {"type": "video", "video": "clip.mp4"},
    ])  # fmt: skip
    return dice.choice([value, value, value, [value], {dice.choice(_NAMES): value}])


def mutated(raw: Any, dice: random.Random, times: int) -> Any:
    """A copy in which some fields or items are gone, doubled, renamed, wrapped, new or other."""
    made = copy.deepcopy(raw)
    for _ in range(times):
        holders = list(_holders(made))
        holder = dice.choice(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = dice.choice(keys) if keys else None
        deed = dice.choice(["drop", "rename", "replace", "wrap", "new", "new", "double"]) if keys else "new"
        if deed == "drop":
            del holder[key]
        elif deed == "replace":
            holder[key] = junk(dice)
        elif deed == "wrap":
            holder[key] = dice.choice([[holder[key]], {dice.choice(_NAMES): holder[key]}])
        elif isinstance(holder, dict):
            name = dice.choice(_NAMES)
            holder[name] = junk(dice) if deed == "new" else copy.deepcopy(holder[key])
            if deed == "rename" and name != key:
                del holder[key]
        else:
            place = dice.randint(0, len(holder))
            holder.insert(place, junk(dice) if deed == "new" else copy.deepcopy(holder[key]))
    return made


def _holders(value: Any) -> Any:
    if isinstance(value, dict | list):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _holders(part)


def media_in(raw: Any, key: str = "") -> list[str]:
    """Every picture, sound or film that a record names outside of its words."""
    if isinstance(raw, str):
        return [raw] if key not in _WORDS and raw in (*PICTURES, *ELSEWHERE, "../outside/c.png") else []
    if isinstance(raw, list):
        return [found for part in raw for found in media_in(part, key)]
    if isinstance(raw, dict):
        return [found for name, part in raw.items() for found in media_in(part, name)]
    return []
