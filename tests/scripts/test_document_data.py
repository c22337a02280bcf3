"""The examples of docs/data.md are what they say."""

from __future__ import annotations

import json
import re

import document_data
import pytest

from moslora_xtuner.data.problem_kinds import FAULTS, REMARKS, Kind
from moslora_xtuner.data.reading.records import read_record

SOUND = '{"id": "7", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}'
WHOLE = {kind: text for kind, text in document_data.RECORDS.items() if text.startswith("{")}
ELSEWHERE = {Kind.BROKEN_JSON, Kind.REPEATED_KEY, Kind.CONTROL_TOKEN}
"""Of the text, or of a tokenizer: tests/bad_cases.py, tests/data/tokens."""


def test_every_kind_has_an_example() -> None:
    assert document_data.RECORDS.keys() | document_data.FILES.keys() == FAULTS.keys() | REMARKS.keys()
    assert not document_data.RECORDS.keys() & document_data.FILES.keys()
    assert FAULTS.keys() | REMARKS.keys() == set(Kind)
    assert not FAULTS.keys() & REMARKS.keys()


def test_the_page_lists_every_kind_as_the_script_writes_it() -> None:
    page = (document_data.DOCS / "data.md").read_text(encoding="utf-8")
    assert document_data.kinds() in page
    for kind in Kind:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {kind} | ")]
        assert document_data.example(kind) in row


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if kind not in ELSEWHERE])
def test_an_example_is_of_its_kind(kind: Kind) -> None:
    shown = json.loads(re.sub(r", \.\.\.(?=})|(?<=\[)\.\.\.(?=\])", "", WHOLE[kind]))
    record = json.loads(SOUND)
    if "from" in shown:
        record["conversations"][1] = shown
    elif kind is Kind.MISSING_ID:
        del record["id"]
    else:
        record |= shown
    _, problems = read_record(record, 0)
    assert kind in [problem.kind for problem in problems]
