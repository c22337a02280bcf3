"""Every bad record is named by id and kind, and so is every bad file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.data.records import inside, iterate_json, read_record
from moslora_xtuner.errors import DataError


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


SOUND = {"id": "r1", "image": "a.png", "conversations": talk("<image>\nWhat?", "A", "And?", "B")}


def test_reads_a_sound_record_with_an_image() -> None:
    record, problems = read_record(SOUND, 0)
    assert problems == []
    assert record is not None
    assert (record.id, record.image) == ("r1", "a.png")
    assert record.turns == (("<image>\nWhat?", "A"), ("And?", "B"))


def test_reads_a_text_only_record() -> None:
    record, problems = read_record({"id": 7, "conversations": talk("Hi", "Ho")}, 0)
    assert problems == []
    assert record is not None
    assert (record.id, record.image) == ("7", None)


BAD: list[tuple[str, dict[str, Any]]] = [
    ("image is null", {"image": None, "conversations": talk("What?", "A")}),
    ("missing id", {"id": None}),
    ("empty conversation", {"conversations": []}),
    ("empty conversation", {"conversations": None}),
    ("empty conversation", {"conversations": "text"}),
    ("turn order", {"conversations": talk("<image>\nWhat?", "A", "And?")}),
    ("turn order", {"conversations": talk("<image>\nWhat?")}),
    ("turn order", {"conversations": [{"from": "gpt", "value": "A"}, {"from": "human", "value": "<image>"}]}),
    ("turn order", {"conversations": [{"from": "human", "value": "<image>"}] * 2}),
    ("unknown role", {"conversations": [{"from": "system", "value": "x"}, *talk("<image>", "A")]}),
    ("unknown role", {"conversations": [{"value": "x"}]}),
    ("bad message", {"conversations": ["x"]}),
    ("bad message", {"conversations": [{"from": "human", "value": None}]}),
    ("image token", {"conversations": talk("What?", "A")}),
    ("image token", {"conversations": talk("<image><image>\nWhat?", "A")}),
    ("image token", {"conversations": talk("<image>\nWhat?", "A", "<image>\nAnd?", "B")}),
    ("bad image", {"image": ["a.png", "b.png"]}),
    ("image outside the folder", {"image": "/etc/a.png"}),
    ("image outside the folder", {"image": "../a.png"}),
    ("image outside the folder", {"image": "deep/../../a.png"}),
    ("image outside the folder", {"image": ""}),
]


@pytest.mark.parametrize(("kind", "change"), BAD)
def test_names_a_bad_record(kind: str, change: dict[str, Any]) -> None:
    record, problems = read_record({**SOUND, **change}, 41)
    assert record is None
    assert kind in [problem.kind for problem in problems]
    wanted = "?" if change.get("id", "") is None else "r1"
    assert {(problem.position, problem.record) for problem in problems} == {(41, wanted)}
    assert f"record 41 (id {wanted}): " in str(problems[0])


def test_a_record_without_an_id_key_and_an_image_token_without_an_image() -> None:
    without_id = {name: value for name, value in SOUND.items() if name != "id"}
    assert [p.kind for p in read_record(without_id, 0)[1]] == ["missing id"]
    without_image = {name: value for name, value in SOUND.items() if name != "image"}
    assert [p.kind for p in read_record(without_image, 0)[1]] == ["image token"]


def test_reports_all_problems_of_a_record_not_the_first() -> None:
    _, problems = read_record({"image": "../a.png", "conversations": []}, 0)
    assert {"missing id", "image outside the folder", "empty conversation"} <= {p.kind for p in problems}


@pytest.mark.parametrize("raw", [None, 3, "text", ["list"]])
def test_a_record_that_is_no_object(raw: Any) -> None:
    record, problems = read_record(raw, 5)
    assert record is None
    assert [p.kind for p in problems] == ["not an object"]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["id", "image", "conversations", "from", "value"]), inner, max_size=4),
                    max_leaves=12))  # fmt: skip
def test_never_crashes_and_never_drops_silently(raw: Any) -> None:
    record, problems = read_record(raw, 0)
    assert (record is None) == bool(problems)


@given(st.lists(st.sampled_from(["a", "b.png", "..", ".", "deep"]), min_size=1, max_size=5))
def test_inside_keeps_every_accepted_path_under_its_root(parts: list[str]) -> None:
    path = "/".join(parts)
    assert inside(path) == (".." not in parts)


def test_reads_json_and_jsonl_alike(tmp_path: Path) -> None:
    # U+2028 ends a line for str.splitlines, but not in JSON Lines.
    records = [SOUND, {"id": "r2", "conversations": talk("line\u2028separator", "B\u0085")}]
    array, lines = tmp_path / "a.json", tmp_path / "a.jsonl"
    array.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    lines.write_text("\n\n".join(json.dumps(record, ensure_ascii=False) for record in records) + "\n", encoding="utf-8")
    assert list(iterate_json(array)) == records
    assert list(iterate_json(lines)) == records


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[1,\n 2", "not JSON at line 2"),
        ("a.json", b'{"id": 1}', "holds a dict: a list"),
        ("a.json", b"\xff\xfe[]", "not UTF-8 at byte 0"),
        ("a.jsonl", b'{"id": 1}\n{"id": 2}\n{"id"\n', "not JSON at line 3"),
    ],
)
def test_names_a_bad_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as fault:
        list(iterate_json(path))
    assert str(path) in str(fault.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        list(iterate_json(tmp_path / "none.json"))
