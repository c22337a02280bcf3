"""The table of a store: rows by number across its batches, columns whole, and travelling to other processes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.schema import encode_rows
from moslora_xtuner.data.tokens.store import FORMAT, Table, read_manifest, write_rows, writing
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX

tokens = st.lists(
    st.tuples(st.integers(0, 128_255) | st.just(IMAGE_TOKEN_INDEX), st.booleans()), min_size=1, max_size=9
)
row = st.tuples(st.text(max_size=4), st.lists(st.text(min_size=1, max_size=5), max_size=2), tokens)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(row, max_size=4), max_size=4))
def test_what_is_written_is_read(
    tmp_path: Path, batches: list[list[tuple[str, list[str], list[tuple[int, bool]]]]]
) -> None:
    given_rows = []
    with writing(tmp_path) as writer:
        for batch in batches:
            rows = [
                (
                    Record(name, tuple(images), ()),
                    ([token for token, _ in pairs], [token if loss else IGNORE_INDEX for token, loss in pairs]),
                )
                for name, images, pairs in batch
            ]
            assert write_rows(writer, encode_rows(rows)).num_rows == len(batch)
            given_rows += rows
    table = Table(tmp_path / "records.arrow")
    travelled = pickle.loads(pickle.dumps(table))
    assert len(table) == len(travelled) == len(given_rows)
    for place, (record, (ids, labels)) in enumerate(given_rows):
        for found in (table.row(place), travelled.row(place), table.row(place - len(given_rows))):
            assert (found["id"], found["images"]) == (record.id, list(record.images))
            assert (found["input_ids"].tolist(), found["labels"].tolist()) == (ids, labels)
    assert table.column("length").tolist() == [len(ids) for _, (ids, _) in given_rows]
    assert table.column("image_count").tolist() == [len(record.images) for record, _ in given_rows]
    # Of a row's tokens the first is never predicted.
    learnt = [sum(label != IGNORE_INDEX for label in labels[1:]) for _, (_, labels) in given_rows]
    assert table.column("supervised").tolist() == learnt
    for beyond in (len(given_rows), -len(given_rows) - 1):
        with pytest.raises(IndexError):
            table.row(beyond)


def test_rows_are_not_copied(tiny_data: Path) -> None:
    ids = Table(tiny_data / "store" / "records.arrow").row(0)["input_ids"]
    assert isinstance(ids, np.ndarray)
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_a_store_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"format": FORMAT - 1}))
    with pytest.raises(ValueError, match="another version"):
        read_manifest(tmp_path)
