"""Every bad record is named by id and kind, and so is every bad file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.data.problem_kinds import FAULTS
from moslora_xtuner.data.reading.pictures import inside
from moslora_xtuner.data.reading.records import read_record


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


SOUND = {"id": "r1", "image": "a.png", "conversations": talk("<image>\nWhat?", "A", "And?", "B")}


def test_reads_a_sound_record_with_an_image() -> None:
    record, problems = read_record(SOUND, 0)
    assert problems == []
    assert record is not None
    assert (record.id, record.images, record.system) == ("r1", ("a.png",), "")
    assert record.turns == (("<image>\nWhat?", "A"), ("And?", "B"))


def test_reads_a_text_only_record() -> None:
    record, problems = read_record({"id": 7, "conversations": talk("Hi", "Ho")}, 0)
    assert problems == []
    assert record is not None
    assert (record.id, record.images) == ("7", ())


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
    ("turn order", {"conversations": [*talk("<image>", "A"), {"from": "system", "value": "x"}]}),
    ("turn order", {"conversations": [{"from": "system", "value": "x"}]}),
    ("unknown role", {"conversations": [{"from": "narrator", "value": "x"}, *talk("<image>", "A")]}),
    ("unknown role", {"conversations": [{"from": ["human"], "value": "x"}, *talk("<image>", "A")]}),
    ("unknown role", {"conversations": [{"value": "x"}]}),
    ("bad message", {"conversations": ["x"]}),
    ("bad message", {"conversations": [{"from": "human", "value": None}]}),
    ("bad text", {"conversations": talk("<image>\nWhat?", "half \ud83d")}),
    ("bad text", {"image": "\ud83d.png"}),
    ("image token", {"conversations": talk("What?", "A")}),
    ("image token", {"conversations": talk("<image><image>\nWhat?", "A")}),
    ("image token", {"conversations": talk("<image>\nWhat?", "A", "<image>\nAnd?", "B")}),
    ("bad image", {"image": []}),
    ("bad image", {"image": ["a.png", 3]}),
    ("bad image", {"image": {"path": 3}}),
    ("bad image", {"image": {"path": "a.png", "bytes": "AAAA"}}),
    ("bad image", {"images": ["b.png"]}),
    ("bad message", {"system": ["Be brief."]}),
    (
        "bad message",
        {"conversations": [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A", "loss": 2}]},
    ),
    ("bad message", {"conversations": [{"from": "human", "value": [{"text": "no type"}]}, *talk("Q", "A")[1:]]}),
    ("unread media", {"conversations": [{"from": "human", "value": "<image>", "audio": "a"}, *talk("Q", "A")[1:]][:1]}),
    ("too many images", {"image": ["a.png", "b.png"], "conversations": talk("<image><image>", "A")}),
    ("image outside the folder", {"image": "/etc/a.png"}),
    ("image outside the folder", {"image": "../a.png"}),
    ("image outside the folder", {"image": "deep/../../a.png"}),
    ("image outside the folder", {"image": ""}),
    ("image outside the folder", {"image": "a\0.png"}),
    ("image outside the folder", {"image": "deep\\a.png"}),
]


@pytest.mark.parametrize(("kind", "change"), BAD)
def test_names_a_bad_record(kind: str, change: dict[str, Any]) -> None:
    record, problems = read_record({**SOUND, **change}, 41)
    assert record is None
    assert kind in [problem.kind for problem in problems]
    wanted = "?" if change.get("id", "") is None else "r1"
    assert {(problem.position, problem.record) for problem in problems} == {(41, wanted)}
    assert f"record 41 (id {wanted}): " in str(problems[0])
    assert all(problem.fault and problem.kind in FAULTS for problem in problems)


def test_several_images_where_they_are_allowed() -> None:
    raw = {**SOUND, "image": ["a.png", "deep/b.png"], "conversations": talk("<image> or <image>?", "A")}
    record, problems = read_record(raw, 0, max_images=2)
    assert problems == []
    assert record is not None
    assert record.images == ("a.png", "deep/b.png")
    assert [p.kind for p in read_record({**raw, "image": ["a.png"]}, 0, max_images=2)[1]] == ["image token"]


def test_role_names_of_sharegpt_and_of_chat_apis() -> None:
    wanted = read_record({"id": "r", "conversations": talk("Hi", "Ho")}, 0)[0]
    for human, gpt in [("user", "assistant"), ("Human", "GPT"), ("user", "chatgpt"), ("human", "bard")]:
        shared = [{"from": human, "value": "Hi"}, {"from": gpt, "value": "Ho"}]
        assert read_record({"id": "r", "conversations": shared}, 0)[0] == wanted
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert read_record({"id": "r", "messages": chat}, 0)[0] == wanted
    system = [{"role": "system", "content": "Be brief."}, *chat]
    record = read_record({"id": "r", "messages": system}, 0)[0]
    assert record is not None
    assert (record.system, record.turns) == ("Be brief.", (("Hi", "Ho"),))


ALIASES = [
    {"image": "a.png"}, {"images": ["a.png"]}, {"image_path": "a.png"}, {"Image": "a.png"},
    {"images": [{"path": "a.png", "bytes": None}]}, {"image": {"path": "a.png"}},
]  # fmt: skip


@pytest.mark.parametrize("fields", ALIASES, ids=str)
def test_pictures_under_other_names_are_read(fields: dict[str, Any]) -> None:
    raw = {name: value for name, value in SOUND.items() if name != "image"} | fields
    assert read_record(raw, 0) == read_record(SOUND, 0)


PARTS = [
    ([{"type": "image"}, {"type": "text", "text": "What?"}], {"images": ["a.png"]}, ("a.png",), "<image>\nWhat?"),
    ([{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}], {}, ("a.png",), "<image>\nWhat?"),
    ([{"type": "image_url", "image_url": {"url": "a.png"}}, "What?"], {}, ("a.png",), "<image>\nWhat?"),
    ([{"type": "text", "text": "Is "}, {"type": "text", "text": "it?"}], {}, (), "Is it?"),
    (
        [{"type": "text", "text": "In"}, {"type": "image", "path": "a.png"}, {"type": "text", "text": "and <image>"}],
        {}, ("a.png",), "In\n<image>\nand \\<image>",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "fields", "images", "words"), PARTS)
def test_messages_in_parts(parts: list[Any], fields: dict[str, Any], images: tuple[str, ...], words: str) -> None:
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": [{"type": "text", "text": "A"}]}]
    record, problems = read_record({"id": "r", "messages": messages, **fields}, 0)
    assert problems == []
    assert record is not None
    assert (record.images, record.turns) == (images, ((words, "A"),))


def test_a_system_prompt_of_the_record() -> None:
    record, problems = read_record({**SOUND, "system": "Be brief."}, 0)
    assert problems == []
    assert record is not None
    assert record.system == "Be brief."
    assert read_record({**SOUND, "system": ""}, 0)[0] == read_record(SOUND, 0)[0]


FLAGS: list[tuple[dict[str, Any], bool]] = [
    ({"loss": False}, False), ({"weight": 0}, False), ({"train": False}, False), ({"loss": True}, True),
    ({"weight": 1.0}, True), ({}, True),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "learnt"), FLAGS)
def test_a_flag_takes_an_answer_out_of_the_loss(flag: dict[str, Any], learnt: bool) -> None:
    said = talk("<image>\nWhat?", "A", "And?", "B")
    record, problems = read_record({**SOUND, "conversations": [said[0], {**said[1], **flag}, *said[2:]]}, 0)
    assert problems == []
    assert record is not None
    assert record.silent == (frozenset() if learnt else {0})


def test_what_nobody_reads_is_named_and_changes_nothing() -> None:
    said = [{**message, "mood": "calm"} for message in SOUND["conversations"]]
    record, problems = read_record({**SOUND, "conversations": said, "model": "m", "image_id": 3, "note": None}, 0)
    assert record == read_record(SOUND, 0)[0]
    assert {problem.kind for problem in problems} == {"unused field"}
    assert [problem.detail for problem in problems if "message" not in problem.detail] == [
        "'model' is 'm'", "'image_id' is 3",
    ]  # fmt: skip
    assert "'message 0: mood' is 'calm'" in [problem.detail for problem in problems]


def test_long_values_are_cut_where_they_are_told() -> None:
    for change in ({"image": "x" * 10**6}, {"id": "x" * 10**6}, {"extra": "x" * 10**6}, {"image": "/" + "x" * 10**6}):
        _, problems = read_record({**SOUND, "conversations": talk("Q", "A"), **change}, 0)
        assert problems
        assert all(len(str(problem)) < 600 for problem in problems)


def test_the_word_for_a_picture_can_stand_in_a_question() -> None:
    record, problems = read_record({"id": "r", "conversations": talk("What does \\<image> mean?", "A mark")}, 0)
    assert problems == []
    assert record is not None
    assert record.images == ()


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


KEYS = [
    "id", "image", "images", "conversations", "messages", "system", "from", "value", "role", "content", "type", "text",
    "path", "bytes", "loss", "weight",
]  # fmt: skip


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(KEYS),
                        inner, max_size=4),
                    max_leaves=12))  # fmt: skip
def test_never_crashes_and_never_drops_silently(raw: Any) -> None:
    record, problems = read_record(raw, 0)
    assert (record is None) == any(problem.fault for problem in problems)


@given(st.lists(st.sampled_from(["a", "b.png", "..", ".", "deep"]), min_size=1, max_size=5))
def test_inside_keeps_every_accepted_path_under_its_root(parts: list[str]) -> None:
    path = "/".join(parts)
    assert inside(path) == (".." not in parts)
