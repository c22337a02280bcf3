"""A corrected copy passes the check, and what was changed or left out is said."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import datasets
import pytest
from bad_cases import CASES, check_all, image_folder, sound, talk, write, write_case
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from moslora_xtuner.data.checking.check import check
from moslora_xtuner.data.checking.fix import Mended, mend_all
from moslora_xtuner.data.checking.mending import mend
from moslora_xtuner.data.checking.worker import Rules
from moslora_xtuner.data.images import check as image_check
from moslora_xtuner.data.reading.problems import shown
from moslora_xtuner.data.reading.sources import open_sources
from moslora_xtuner.errors import OutputError, UsageError


def mended(source: Path, images: Path, out: Path) -> Mended:
    sources = open_sources(source)
    return mend_all(sources[0], Rules(tuple(sources), images), out)


def faults(source: Path, images: Path) -> int:
    sources = open_sources(source)
    return check(sources, Rules(tuple(sources), images), workers=1).faults


MENDABLE = {"no id", "surrogate", "null image", "no mark", "two marks", "no answer"}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", CASES)
def test_the_copy_is_sound_and_whole_or_says_what_it_lacks(name: str, suffix: str, tmp_path: Path) -> None:
    source, images = write_case(CASES[name], tmp_path)
    out = tmp_path / f"copy{suffix}"
    made = mended(source, images, out)
    assert faults(out, images) == 0
    # '../outside.png' next to the folder cannot become a path inside it.
    assert (made.records, made.changed, made.left_out) == ((3, 1, 0) if name in MENDABLE else (2, 0, 1))
    lines = [json.loads(line) for line in made.changes.read_text().splitlines()]
    assert {line["position"] for line in lines} == {1}
    assert {line["done"] for line in lines} == {"changed" if name in MENDABLE else "left out"}
    assert f"{made.records} records, {made.changed} of them changed, {made.left_out} left out" in made.table()


@pytest.mark.parametrize(
    ("raw", "wanted", "done"),
    [
        ({"conversations": talk("Q", "A")}, {"id": "record-7", "conversations": talk("Q", "A")}, ["id given"]),
        ({**sound("r"), "image": None}, sound("r"), ["image: null removed"]),
        (
            {**sound("r", "a.png"), "conversations": talk("Q", "A", "R", "B")},
            {**sound("r", "a.png"), "conversations": talk("<image>\nQ", "A", "R", "B")},
            ["<image> put in front"],
        ),
        (
            {**sound("r", "a.png"), "conversations": talk("x <image> y <image>", "A", "<image>R", "B")},
            {**sound("r", "a.png"), "conversations": talk("x <image> y ", "A", "R", "B")},
            ["surplus <image> taken out"],
        ),
        (
            {"id": "r", "conversations": [{"from": "gpt", "value": "Hi"}, *talk("Q", "A", "R")]},
            sound("r"),
            ["answer without a question cut off", "question without an answer cut off"],
        ),
        (sound("r", "a.jpeg"), sound("r", "a.png"), ["image found under another name"]),
        (sound("r", "deep/../a.png"), sound("r", "a.png"), ["path made relative"]),
        (sound("r", "deep\\b.png"), sound("r", "deep/b.png"), ["path made relative"]),
        (sound("r", "../a.png"), sound("r", "../a.png"), []),
        (
            {"id": "r", "messages": [{"role": "user", "content": "Q \ud83d"}, {"role": "assistant", "content": "A"}]},
            {"id": "r", "messages": [{"role": "user", "content": "Q \ufffd"}, {"role": "assistant", "content": "A"}]},
            ["lone surrogates replaced"],
        ),
    ],
)
def test_by_hand(raw: Any, wanted: Any, done: list[str], image_root: Path) -> None:
    before = json.dumps(raw)
    made, changes = mend(raw, 7, image_root)
    assert (made, [change.kind for change in changes]) == (wanted, done)
    assert json.dumps(raw) == before


def test_an_absolute_path_into_the_folder_becomes_relative(image_root: Path) -> None:
    raw = sound("r", str(image_root / "deep" / "b.png"))
    detail = f"{shown(raw['image'])} is now 'deep/b.png'"
    assert mend(raw, 0, image_root) == (sound("r", "deep/b.png"), [("path made relative", detail)])
    outside = sound("r", str(image_root.parent / "images2" / "b.png"))
    assert mend(outside, 0, image_root) == (outside, [])


def test_sound_records_are_copied_as_they_are(image_root: Path, tmp_path: Path) -> None:
    records = [{**sound("a", "a.png"), "extra": {"score": 1.5}}, sound("数字"), {**sound("n"), "id": 3}]
    source = write(tmp_path / "a.json", records)
    made = mended(source, image_root, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) == records
    assert (made.records, made.changed, made.kinds, made.changes.read_text()) == (3, 0, {}, "")


def test_a_missing_comma_is_mended(image_root: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(f"[{json.dumps(sound('a'))} {json.dumps(sound('b'))}")
    made = mended(tmp_path / "a.json", image_root, tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text()) == [sound("a"), sound("b")]
    assert made.kinds == {"comma or bracket mended": 2}


def test_a_table_holds_more_than_json_has_words_for(image_root: Path, tmp_path: Path) -> None:
    row = {**sound("t"), "when": datetime(2020, 1, 2), "image": "A.PNG"}
    datasets.Dataset.from_list([{**row, "data": None}, {**row, "data": b"\x89PNG"}]).save_to_disk(tmp_path / "table")
    made = mended(tmp_path / "table", image_root, tmp_path / "b.json")
    (copy,) = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))
    assert (copy["when"], copy["image"]) == ("2020-01-02 00:00:00", "a.png")
    assert made.kinds["left out: unread media"] == 1


def test_a_record_too_deep_to_walk_through_is_left_out_and_named(image_root: Path, tmp_path: Path) -> None:
    """Python reads it deeper than it writes it, and copies it less deep than that."""
    left_out = []
    for depth in sorted({*range(100, 1000, 50), *range(900, 1000, 5)}):
        text = json.dumps({**sound("b"), "extra": 0}).replace("0}", "[" * depth + "]" * depth + "}")
        source = write(tmp_path / "a.jsonl", [sound("a"), text])
        assert check_all(source, image_root)[0].records == 2
        made = mended(source, image_root, tmp_path / f"{depth}.json")
        assert made.records + made.left_out == 2
        left_out.append(made.left_out)
    assert left_out[0] == 0
    assert left_out[-1] == 1
    assert left_out == sorted(left_out)


def test_the_log_of_a_file_whose_name_is_no_text(image_root: Path, tmp_path: Path) -> None:
    source = write(tmp_path / os.fsdecode(b"a\xff.json"), [{"conversations": talk("Q", "A")}])
    assert json.loads(mended(source, image_root, tmp_path / "b.json").changes.read_text())["kind"] == "id given"


def test_nothing_is_overwritten(image_root: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "a.json", [sound("a")])
    before = source.read_bytes()
    with pytest.raises(UsageError, match="the file to be mended"):
        mended(source, image_root, source)
    (tmp_path / "b.json").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        mended(source, image_root, tmp_path / "b.json")
    assert (source.read_bytes(), (tmp_path / "b.json").read_text()) == (before, "mine")


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["human", "gpt", "<image>"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["id", "image", "conversations", "messages", "from", "value", "role"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=14,
    )
)
def test_anything_can_be_tried(tmp_path_factory: pytest.TempPathFactory, raw: Any) -> None:
    made, done = mend(raw, 0, tmp_path_factory.getbasetemp())
    assert (made == raw) == (not done)


def test_pictures_named_jpg_that_were_saved_as_they_are(tmp_path: Path) -> None:
    """OCR-VQA: the mix says .jpg, a download keeps .gif and .png."""
    images = image_folder(tmp_path / "images")
    Image.new("P", (4, 4)).save(images / "book.gif")
    source = write(tmp_path / "a.json", [sound("book", "book.jpg"), sound("a", "a.jpg")])
    made = mended(source, images, tmp_path / "b.json")
    assert [r["image"] for r in json.loads((tmp_path / "b.json").read_text())] == ["book.gif", "a.jpg"]
    assert made.kinds == {"image found under another name": 1}


def test_what_a_check_has_decoded_is_not_decoded_again(
    image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.json", [sound("a", "a.png"), sound("cut", "truncated.png")])
    assert faults(source, image_root) == 1
    monkeypatch.setattr(image_check, "decode", lambda real, name: pytest.fail(f"{name} was decoded again"))
    made = mended(source, image_root, tmp_path / "b.json")
    assert (made.records, made.kinds) == (1, {"left out: truncated image": 1})
