"""Parts of the training questions: their size, drawn by a seed, one within the other, whole or not at all."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from commonsense_part import places, write_part

from moslora_xtuner.errors import DataError, OutputError, UsageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"id": f"commonsense-{n}"} for n in range(80)]))
    return path


def ids(file: Path) -> list[int]:
    return [int(record["id"].removeprefix("commonsense-")) for record in json.loads(file.read_text())]


def test_smaller_parts_lie_within_larger_ones() -> None:
    """An eighth of 80 are 10; the order of the file is kept; another seed draws others, evenly."""
    parts = [places(80, per_cent, 42) for per_cent in (12.5, 25, 50, 75, 100)]
    assert [len(part) for part in parts] == [10, 20, 40, 60, 80]
    assert all(set(small) < set(large) for small, large in itertools.pairwise(parts))
    assert all(part == sorted(part) for part in parts)
    assert places(80, 50, 43) != parts[2]
    often = [sum(place in places(80, 50, seed) for seed in range(200)) for place in range(80)]
    assert min(often) > 70
    assert max(often) < 130


def test_what_is_written(source: Path, tmp_path: Path) -> None:
    file = write_part(source, tmp_path / "a", 12.5, 42)
    assert file.name == "part-12.5-seed-42.json"
    assert ids(file) == places(80, 12.5, 42)
    facts = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert (facts["of"], facts["records"], facts["per_cent"], facts["seed"]) == (80, 10, 12.5, 42)
    before = file.stat().st_mtime_ns
    assert write_part(source, tmp_path / "a", 12.5, 42) == file
    assert file.stat().st_mtime_ns == before
    assert write_part(source, tmp_path / "b", 12.5, 42).read_bytes() == file.read_bytes()


def test_a_part_of_other_questions_is_not_taken_for_this_one(source: Path, tmp_path: Path) -> None:
    write_part(source, tmp_path / "a", 50, 1)
    for per_cent, seed in ((25, 1), (50, 2)):
        with pytest.raises(OutputError, match="was begun with other settings"):
            write_part(source, tmp_path / "a", per_cent, seed)
    source.write_text(json.dumps([{"id": f"commonsense-{n}"} for n in range(81)]))
    with pytest.raises(OutputError, match="sha256 was"):
        write_part(source, tmp_path / "a", 50, 1)


@pytest.mark.parametrize("per_cent", [0, -1, 100.1, 0.5])
def test_a_share_that_is_none_is_refused(source: Path, tmp_path: Path, per_cent: float) -> None:
    with pytest.raises(UsageError, match=r"per-cent|is none: give more"):
        write_part(source, tmp_path / "a", per_cent, 1)
    assert not (tmp_path / "a").exists()


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        write_part(tmp_path / "gone.json", tmp_path / "a", 50, 1)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match="is no list of records"):
        write_part(tmp_path / "x.json", tmp_path / "a", 50, 1)
