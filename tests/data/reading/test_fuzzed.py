"""Records of every form, and what can happen to them, from every kind of file: read whole, or named; no third way."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
from bad_cases import check_all, sound, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_forms import PICTURES, media_in, mutated, picture_folder, records

from moslora_xtuner.data.instructions import marks
from moslora_xtuner.data.problem_kinds import Kind
from moslora_xtuner.data.reading.problems import Problem
from moslora_xtuner.data.reading.records import picture_places, read_record, record_name
from moslora_xtuner.data.reading.sources import Broken, open_sources

FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
seeds = st.integers(0, 10**9)


def name_of(raw: Any) -> str:
    """As problems say it."""
    return Problem(Kind.BAD_TEXT, record_name(raw), 0, "").record


def reads_all_or_names(raw: Any, named: list[str]) -> None:
    """The rule: a record is sound and brings every picture that it names, or a fault says that it does not."""
    record, problems = read_record(raw, 3, max_images=9)
    assert all((problem.position, problem.record) == (3, name_of(raw)) for problem in problems)
    assert (record is None) == any(problem.fault for problem in problems)
    if record is not None:
        assert not Counter(named) - Counter(record.images)
        assert sum(marks(human) for human, _ in record.turns) == len(record.images)


@settings(max_examples=150, deadline=None)
@given(made=records())
def test_every_form_is_read_whole(made: tuple[dict[str, Any], list[str]]) -> None:
    raw, pictures = made
    record, problems = read_record(raw, 0, max_images=9)
    assert problems == []
    assert record is not None
    assert list(record.images) == pictures
    assert [place.value for place in picture_places(raw)] == pictures
    assert sum(marks(human) for human, _ in record.turns) == len(pictures)
    assert all(answer.startswith("A") for _, answer in record.turns)
    messages = raw.get("conversations", raw.get("messages"))
    answers = [m for m in messages if m.get("from", m.get("role")) in ("gpt", "assistant")]
    quiet = {n for n, m in enumerate(answers) if not all(m.get(flag, 1) for flag in ("loss", "weight", "train"))}
    assert record.silent == quiet
    has_system = "system" in raw or "system" in (messages[0].get("from"), messages[0].get("role"))
    assert record.system == ("Be brief." if has_system else "")


@settings(max_examples=400, deadline=None)
@given(made=records(), seed=seeds, times=st.integers(1, 4))
def test_a_changed_record_brings_all_or_is_named(made: tuple[Any, Any], seed: int, times: int) -> None:
    raw = mutated(made[0], random.Random(seed), times)
    reads_all_or_names(raw, media_in(raw))


@settings(max_examples=40, deadline=None, suppress_health_check=FIXTURES)
@given(made=records(), seed=seeds, times=st.integers(0, 3), lines=st.booleans())
def test_in_a_file_it_costs_itself_alone(
    tmp_path: Path, made: tuple[Any, Any], seed: int, times: int, lines: bool
) -> None:
    images = picture_folder(tmp_path / "images")
    raw = mutated(made[0], random.Random(seed), times)
    source = write(tmp_path / ("a.jsonl" if lines else "a.json"), [sound("first"), raw, sound("last", "a.png")])
    report, problems = check_all(source, images, max_images=9)
    faults = [problem for problem in problems if problem.fault]
    assert (report.records, report.bad) == (3, bool(faults))
    assert {(fault.position, fault.record) for fault in faults} <= {(1, name_of(raw))}
    assert faults or set(media_in(raw)) <= set(PICTURES)


@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURES)
@given(made=records(), seed=seeds, times=st.integers(0, 3))
def test_a_table_says_the_same(tmp_path: Path, made: tuple[Any, Any], seed: int, times: int) -> None:
    raw = mutated(made[0], random.Random(seed), times)
    try:
        datasets.Dataset.from_list([raw]).save_to_disk(tmp_path / f"table{seed}-{times}")
    except Exception:  # what a table cannot hold, such as a text and a list in one column, never gets this far
        return
    (source,) = open_sources(tmp_path / f"table{seed}-{times}")
    (entry,) = [entry for chunk in source.reader.chunks(5) for entry in source.reader.read(chunk)]
    assert not isinstance(entry.raw, Broken)
    reads_all_or_names(entry.raw, media_in(raw))
