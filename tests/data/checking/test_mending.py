"""What the fixer claims to mend it mends, in every form of a record: what the reader makes of it says so."""

from __future__ import annotations

import json
import os
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from bad_cases import check_all, sound, talk, write
from hypothesis import given, settings
from hypothesis import strategies as st
from record_forms import PICTURES, mutated, picture_folder, records

from moslora_xtuner.data.checking.fix import mend_all
from moslora_xtuner.data.checking.mending import mend
from moslora_xtuner.data.checking.worker import Examiner, Rules
from moslora_xtuner.data.problem_kinds import Kind
from moslora_xtuner.data.reading.problems import Problem
from moslora_xtuner.data.reading.records import Record, picture_places
from moslora_xtuner.data.reading.sources import Entry, open_sources

seeds = st.integers(0, 10**9)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures, by way of a link and in a folder beside which others lie."""
    real = picture_folder(tmp_path_factory.mktemp("real") / "images")
    (real.parent / "link").symlink_to(real)
    return real.parent / "link"


def judged(raw: Any, images: Path) -> tuple[Record | None, list[Problem]]:
    return Examiner(Rules((), images, max_images=9)).judge(Entry(0, None, raw), "")


def misspelt(path: str, images: Path, dice: random.Random) -> str:
    """Another way to say where a picture lies, none of which the reader takes."""
    ways = [
        path.upper(),
        path.replace(".png", ".jpeg").replace(".jpg", ".PNG"),
        unicodedata.normalize("NFD", path).replace(".png", ".PNG"),
        f"deep/../{path}",
        f"..\\{images.name}\\" + path.replace("/", "\\"),
        str(images / path),
        str(images.resolve() / path.upper()),
        f"{images.parent}\\nowhere\\..\\link\\" + path.replace("/", "\\"),
    ]
    return dice.choice(ways)


def remark(raw: dict[str, Any], dice: random.Random) -> None:
    """Put marks that are too many into a question, or take some out."""
    messages = raw.get("conversations", raw.get("messages"))
    assert isinstance(messages, list)
    message = dice.choice([m for m in messages if m.get("from", m.get("role")) in ("human", "user")])
    key = "value" if "value" in message else "content"
    if isinstance(message[key], str):
        texts = ["<image>", "<im<image>age>", "\\<image>"]
        message[key] = dice.choice([message[key].replace("<image>\n", ""), message[key] + dice.choice(texts)])
    elif dice.random() < 0.5:
        message[key].append({"type": "image"})
    else:
        message[key] = [p for p in message[key] if not isinstance(p, dict) or len(p) > 1]


@settings(max_examples=150)
@given(made=records(), seed=seeds)
def test_every_place_of_a_path_and_every_mark(images: Path, made: tuple[dict[str, Any], list[str]], seed: int) -> None:
    raw, pictures = made
    dice = random.Random(seed)
    for place in picture_places(raw):
        place.put(misspelt(place.value, images, dice))
    if pictures:
        remark(raw, dice)
    if dice.random() < 0.3:
        raw["id"] = None
    before = json.dumps(raw)
    mended, done = mend(raw, 5, images)
    assert json.dumps(raw) == before
    record, problems = judged(mended, images)
    assert [str(problem) for problem in problems if problem.fault] == []
    assert record is not None
    assert list(record.images) == pictures
    assert len(record.turns) == sum(m.get("from", m.get("role")) in ("gpt", "assistant") for m in _messages(raw))
    assert mend(mended, 5, images) == (mended, [])
    assert done or mended == raw


def _messages(raw: dict[str, Any]) -> list[dict[str, Any]]:
    found = raw.get("conversations", raw.get("messages"))
    assert isinstance(found, list)
    return found


NEVER_LEFT = {Kind.MISSING_ID, Kind.BAD_TEXT, Kind.IMAGE_IS_NULL}


@settings(max_examples=200)
@given(made=records(), seed=seeds, times=st.integers(1, 4))
def test_whatever_has_happened_mending_loses_nothing(
    images: Path, made: tuple[Any, Any], seed: int, times: int
) -> None:
    raw = mutated(made[0], random.Random(seed), times)
    mended, done = mend(raw, 0, images)
    assert mend(mended, 0, images) == (mended, [])
    assert (mended == raw) == (not done)
    assert sum(p.value is not None for p in picture_places(mended)) >= _named(raw)
    record, problems = judged(mended, images)
    kinds = {problem.kind for problem in problems}
    assert not kinds & NEVER_LEFT
    alone = [kind for kind in (problem.kind for problem in problems if problem.fault) if kind != Kind.TOO_MANY_IMAGES]
    if alone == [Kind.IMAGE_OUTSIDE_THE_FOLDER]:
        assert any(_leads_out(place.value, images) for place in picture_places(mended))
    if alone == [Kind.MISSING_IMAGE]:
        assert any(place.value not in PICTURES for place in picture_places(mended))
    assert record is not None or alone


def _leads_out(path: str, images: Path) -> bool:
    there = os.path.realpath(images / path.replace("\\", "/"))
    return not path or not there.startswith(f"{images.resolve()}{os.sep}")


def _named(raw: Any) -> int:
    return sum(place.value is not None for place in picture_places(raw))


@settings(max_examples=20)
@given(several=st.lists(st.tuples(records(), seeds, st.integers(0, 2)), min_size=1, max_size=8))
def test_the_copy_of_a_file_is_sound_and_every_record_is_in_it_or_named(
    images: Path, tmp_path_factory: pytest.TempPathFactory, several: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("copy")
    raws = [mutated(raw, random.Random(seed), times) for (raw, _), seed, times in several]
    (source,) = open_sources(write(folder / "a.jsonl", [sound("first"), *raws]))
    rules = Rules((source,), images, max_images=9)
    made = mend_all(source, rules, folder / "b.json")
    rows = [json.loads(line) for line in made.changes.read_text(encoding="utf-8").splitlines()]
    gone = {row["position"] for row in rows if row["done"] == "left out"}
    assert (made.records + made.left_out, len(gone)) == (len(raws) + 1, made.left_out)
    report, _ = check_all(folder / "b.json", images, max_images=9)
    assert (report.records, report.faults) == (made.records, 0)
    (copy,) = open_sources(folder / "b.json")
    again = mend_all(copy, rules, folder / "c.json")
    assert (again.changed, again.left_out) == (0, 0)
    assert (folder / "c.json").read_bytes() == (folder / "b.json").read_bytes()


BY_HAND: list[tuple[dict[str, Any], list[str], list[str]]] = [
    # a record's own pictures and its questions; what is read of the questions after mending
    ({"images": ["a.png", "a.png"]}, ["Q", "R"], ["<image>\n<image>\nQ", "R"]),
    ({"images": ["a.png", "a.png"]}, ["Q", "<image>\nR"], ["<image>\nQ", "<image>\nR"]),
    ({"images": ["a.png", "a.png"]}, ["<image>\n<image>\nQ", "<image>\nR"], ["<image>\n<image>\nQ", "R"]),
    ({"image": "a.png"}, ["The word \\<image>", "R"], ["<image>\nThe word \\<image>", "R"]),
    ({"image": "a.png"}, ["\\<image> <image>", "<image>R"], ["\\<image> <image>", "R"]),
]


@pytest.mark.parametrize(("fields", "questions", "wanted"), BY_HAND)
def test_marks_by_hand(images: Path, fields: Any, questions: list[str], wanted: list[str]) -> None:
    said = talk(*(text for question in questions for text in (question, "A")))
    record, _ = judged(mend({"id": "r", **fields, "conversations": said}, 0, images)[0], images)
    assert record is not None
    assert [human for human, _ in record.turns] == wanted


def test_a_question_with_a_picture_is_not_cut_off(images: Path) -> None:
    """Without its mark the other picture would stand with words that are not about it."""
    said = talk("<image>\nQ", "A", "<image>\nAnd?")
    raw = {"id": "r", "images": ["a.png", "a.png"], "conversations": said}
    assert mend(raw, 0, images) == (raw, [])
    parts = {"role": "user", "content": [{"type": "image", "image": "a.png"}]}
    raw = {"id": "r", "messages": [*({"role": m["from"], "content": m["value"]} for m in talk("Q", "A")), parts]}
    assert mend(raw, 0, images) == (raw, [])


def test_a_path_behind_a_link_goes_where_the_system_goes(tmp_path: Path) -> None:
    root = picture_folder(tmp_path / "images")
    (root / "way").symlink_to(tmp_path / "outside")
    raw = sound("r", "way/../a.png")  # the system opens a.png beside images, and not the one in it
    assert mend(raw, 0, root) == (raw, [])
