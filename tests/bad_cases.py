"""Every bad record that a check must name, in one place: check, prepare and training are held against the same list."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moslora_xtuner.data.checking.check import CheckReport, check
from moslora_xtuner.data.checking.worker import Rules
from moslora_xtuner.data.reading.problems import Problem
from moslora_xtuner.data.reading.sources import open_sources


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


def sound(name: str, image: str | None = None) -> dict[str, Any]:
    if image is None:
        return {"id": name, "conversations": talk("Q", "A")}
    return {"id": name, "image": image, "conversations": talk("<image>\nQ", "A")}


def bad(**change: Any) -> dict[str, Any]:
    return {**sound("bad", "a.png"), **change}


def asked(*parts: Any) -> dict[str, Any]:
    return {"id": "bad", "messages": [{"role": "user", "content": [*parts]}, {"role": "assistant", "content": "A"}]}


@dataclass(frozen=True)
class Case:
    """What is wrong, how it is written, and how it is named.

    Attributes:
        kind: of the fault.
        raw: the record, or the text that stands in its place.
        name: the id by which it is named, `?` when it has none; also one that stands in broken text.
        images: writes what the record needs into the image folder.
    """

    kind: str
    raw: Any
    name: str = "bad"
    images: Callable[[Path], object] = field(default=lambda root: None)


def _cut(root: Path) -> None:
    whole = (root / "a.jpg").read_bytes()
    (root / "cut.jpg").write_bytes(whole[: len(whole) // 2])


def _bomb(root: Path) -> None:
    head = Image.new("1", (20_000, 20_000))
    head.save(root / "bomb.png")


def _link(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root.parent / "outside.png")
    if not (root / "link.png").is_symlink():
        (root / "link.png").symlink_to(root.parent / "outside.png")


CASES = {
    "broken": Case("broken JSON", '{"id": "bad", "conversations": [{"from": "human" "value": "Q"}]}'),
    "cut word": Case("broken JSON", '{"id": "bad", "conversations": nul}'),
    "not utf-8": Case("not UTF-8", b'{"id": "bad", "conversations": "\xff"}'),
    "number": Case("not an object", 7, "?"),
    "repeated key": Case("repeated key", '{"id": "bad", "id": "bad2", "conversations": []}'),
    "no id": Case("missing id", {"conversations": talk("Q", "A")}, "?"),
    "surrogate": Case("bad text", bad(conversations=talk("<image>\nQ", "half \ud83d"))),
    "null image": Case("image is null", {**sound("bad"), "image": None}),
    "image number": Case("bad image", bad(image=3)),
    "bytes": Case("bad image", bad(image={"bytes": "iVBORw0KGgo=", "path": None})),
    "address": Case("bad image", bad(image="https://example.org/a.png")),
    "data address": Case("bad image", bad(image="data:image/png;base64," + "A" * 10_000)),
    "two places": Case("bad image", bad(images=["a.png"])),
    "picture elsewhere": Case("unread media", {**sound("bad"), "Picture": "a.png"}),
    "picture in a struct": Case("unread media", {**sound("bad"), "extra": {"file": {"path": "a.png"}}}),
    "bytes elsewhere": Case("unread media", {**sound("bad"), "extra": [{"bytes": "AAAA"}]}),
    "sound": Case("unread media", bad(audio="a.wav")),
    "video": Case("unread media", {**sound("bad"), "video": "a.mp4"}),
    "video part": Case(
        "unread media",
        {"id": "bad", "messages": [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]},
    ),
    "picture beside words": Case("unread media", asked({"type": "text", "text": "Q", "image": "a.png"})),
    "picture in other words": Case(
        "unread media",
        {"id": "bad", "conversations": [{**talk("Q")[0], "content": [{"type": "image"}]}, *talk("Q", "A")[1:]]},
    ),
    "picture deep down": Case("unread media", {**sound("bad"), "extra": [[{"a": {"b": [{"c": [["a.png"]]}]}}]] * 30}),
    "two names of one": Case("unread media", bad(image={"path": "a.png", "url": "https://example.org/b.jpg?size=3"})),
    "picture out of turn": Case("bad image", {**asked({"type": "image", "index": 1}), "images": ["a.png"]}),
    "two images": Case("too many images", bad(image=["a.png", "a.jpg"], conversations=talk("<image><image>", "A"))),
    "absolute": Case("image outside the folder", bad(image="/etc/passwd")),
    "parent": Case("image outside the folder", bad(image="../outside.png"), images=_link),
    "link": Case("image outside the folder", bad(image="link.png"), images=_link),
    "gone": Case("missing image", bad(image="gone.png")),
    "no picture": Case("unreadable image", bad(image="text.png"), images=lambda r: (r / "text.png").write_text("text")),
    "truncated": Case("truncated image", bad(image="cut.jpg"), images=_cut),
    "empty file": Case("zero-size image", bad(image="empty.png"), images=lambda root: (root / "empty.png").touch()),
    "bomb": Case("decompression bomb", bad(image="bomb.png"), images=_bomb),
    "16 bits": Case(
        "16-bit image",
        bad(image="deep.png"),
        images=lambda root: Image.fromarray(np.full((4, 4), 9000, np.uint16)).save(root / "deep.png"),
    ),
    "long side": Case(
        "decompression bomb",
        bad(image="long.png"),
        images=lambda root: Image.new("1", (40_000, 1)).save(root / "long.png"),
    ),
    "no message": Case("empty conversation", {"id": "bad", "conversations": []}),
    "no text": Case("bad message", {"id": "bad", "conversations": [{"from": "human"}]}),
    "role": Case("unknown role", {"id": "bad", "conversations": [{"from": "narrator", "value": "Q"}]}),
    "order": Case("turn order", {"id": "bad", "conversations": talk("Q", "A")[::-1]}),
    "no answer": Case("turn order", {"id": "bad", "conversations": talk("Q", "A", "Q")}),
    "blank answer": Case("empty answer", {"id": "bad", "conversations": talk("Q", " \n")}),
    "loss of a question": Case(
        "bad message",
        {"id": "bad", "messages": [{"role": "user", "content": "Q", "loss": True}, {"role": "gpt", "content": "A"}]},
    ),
    "no mark": Case("image token", bad(conversations=talk("Q", "A"))),
    "two marks": Case("image token", bad(conversations=talk("<image><image>", "A"))),
    "mark alone": Case("image token", {"id": "bad", "conversations": talk("<image>\nQ", "A")}),
}


def image_folder(root: Path) -> Path:
    """A folder with a.png and a.jpg."""
    root.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "a.png")
    Image.fromarray(pixels).save(root / "a.jpg")
    return root


def write(path: Path, records: list[Any]) -> Path:
    """A JSON list, or lines, in which records that are text or bytes stand as they are."""
    parts = [
        raw if isinstance(raw, bytes) else raw.encode() if isinstance(raw, str) else json.dumps(raw).encode()
        for raw in records
    ]
    path.write_bytes(b"\n".join(parts) if path.suffix == ".jsonl" else b"[" + b",\n".join(parts) + b"]")
    return path


def write_case(case: Case, folder: Path, suffix: str = ".json") -> tuple[Path, Path]:
    """The bad record between sound ones, and its image folder."""
    images = image_folder(folder / "images")
    case.images(images)
    return write(folder / f"train{suffix}", [sound("first"), case.raw, sound("last", "a.png")]), images


def check_all(source: Path | list[Path], images: Path, **options: Any) -> tuple[CheckReport, list[Problem]]:
    """Check in this process unless told otherwise; the report and every problem."""
    rules = {name: options.pop(name) for name in ("decode", "max_images", "max_length") if name in options}
    found: list[Problem] = []
    sources = open_sources(source)
    report = check(
        sources,
        Rules(tuple(sources), images, **rules),
        problem=found.append,
        **{"workers": 1, **options},
    )
    return report, found
