"""A check reads on after a problem, and every record ends up sound or named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner.data.check import check_json
from moslora_xtuner.errors import DataError

WriteJson = Callable[[list[Any]], Path]


def record(name: str, image: str | None = None, **change: Any) -> dict[str, Any]:
    question = "Q" if image is None else "<image>\nQ"
    made: dict[str, Any] = {
        "id": name,
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "A"}],
    }
    if image is not None:
        made["image"] = image
    return {**made, **change}


def test_all_problems_are_named_and_the_rest_is_sound(write_json: WriteJson, image_root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes((image_root / "a.png").read_bytes())
    (image_root / "link.png").symlink_to(tmp_path / "outside.png")
    records = [
        record("text"),
        record("a", "a.png"),
        record("text"),
        record("gone", "none.png"),
        record("cut", "truncated.png"),
        record("away", "../images/a.png"),
        record("linked", "link.png"),
        record("empty", conversations=[]),
        "no object",
        record("b", "deep/b.png"),
    ]
    seen: list[int] = []
    report, sound = check_json(write_json(records), image_root, progress=seen.append)
    assert [r.id for r in sound] == ["text", "a", "b"]
    assert [r.image for r in sound] == [None, "a.png", "deep/b.png"]
    found = [(p.position, p.record, p.kind) for p in report.problems]
    assert found == [
        (2, "text", "duplicate id"),
        (3, "gone", "image"),
        (4, "cut", "image"),
        (5, "away", "image outside the folder"),
        (6, "linked", "image"),
        (7, "empty", "empty conversation"),
        (8, "?", "not an object"),
    ]
    assert (report.records, report.text_only) == (10, 1)
    assert len(sound) + len({p.position for p in report.problems}) == report.records
    assert seen == list(range(1, 11))
    table = report.table()
    assert "10 records, 1 text only, 7 problems" in table
    assert "image: 3" in table
    assert all(f"(id {name})" in table for name in ("text", "gone", "cut", "away", "linked", "empty"))


def test_the_table_shows_three_examples_of_a_kind(write_json: WriteJson, image_root: Path) -> None:
    report, sound = check_json(write_json([record(str(n), "none.png") for n in range(5)]), image_root)
    assert sound == []
    assert "image: 5" in report.table()
    assert report.table().count("(id ") == 3


def test_without_decoding_images_are_not_opened(write_json: WriteJson, image_root: Path) -> None:
    report, sound = check_json(write_json([record("cut", "truncated.png")]), image_root, decode=False)
    assert report.problems == []
    assert len(sound) == 1
    assert "no problems" in report.table()


def test_an_empty_list_is_refused(write_json: WriteJson, image_root: Path) -> None:
    with pytest.raises(DataError, match="no record"):
        check_json(write_json([]), image_root)
