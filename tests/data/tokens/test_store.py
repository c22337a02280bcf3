"""The table of a store: rows by number across its batches, columns whole, and travelling to other processes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from bad_cases import sound, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.schema import encode_rows
from moslora_xtuner.data.tokens.store import (
    FORMAT,
    Table,
    open_store,
    read_manifest,
    require_tokens,
    table_facts,
    write_rows,
    writing,
)  # fmt: skip
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from moslora_xtuner.errors import DataError

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


def store_of(folder: Path, rows: list[list[int]], batches: int = 1) -> Path:
    """A store of rows of tokens, each learnt, cut into record batches."""
    with writing(folder) as writer:
        for part in range(batches):
            mine = [(Record(f"r{n}", (), ()), (row, row)) for n, row in enumerate(rows) if n % batches == part]
            write_rows(writer, encode_rows(mine))
    manifest = {"format": FORMAT, "records": len(rows), "text_only": len(rows), "table": table_facts(folder)}
    (folder / "store.json").write_text(json.dumps({**manifest, "template": "llama3_chat"}))
    return folder


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("token", [100, 2**31 - 1, -1, -201])
def test_a_token_that_the_model_has_not_names_its_record(tmp_path: Path, batches: int, token: int) -> None:
    rows = [[1, 2], [3, 99, 4, 5], [6, token], [7], [8, token]]
    table = open_store(store_of(tmp_path, rows, batches), tmp_path)[1]
    order = [n for part in range(batches) for n in range(len(rows)) if n % batches == part]
    first = min(order.index(2), order.index(4))
    assert table.beyond(100) == (first, token)
    with pytest.raises(
        DataError, match=rf"record {first} \(id r{order[first]}\) of .* has the token {token}, the model 100"
    ):
        require_tokens(table, 100)
    if token == 100:
        require_tokens(table, 101)


def test_marks_of_pictures_and_of_nothing_to_learn_are_no_tokens_beyond(tiny_data: Path, tmp_path: Path) -> None:
    table = Table(tiny_data / "store" / "records.arrow")
    most = max(int(table.row(n)["input_ids"].max()) for n in range(len(table)))
    assert table.beyond(most + 1) is None
    assert table.beyond(most) is not None
    # A mark of the one column is none in the other.
    assert Table(store_of(tmp_path, [[1, IGNORE_INDEX]]) / "records.arrow").beyond(9) == (0, IGNORE_INDEX)


def test_a_damaged_table_is_never_a_store(tmp_path: Path) -> None:
    whole = store_of(tmp_path, [[n, n + 1] for n in range(50)])
    table = whole / "records.arrow"
    content = table.read_bytes()
    open_store(whole, tmp_path)
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged, told in (
        (bytes(flipped), "other bytes than were written"),
        (content[: len(content) // 2], "no token store in"),
        (content + b"x", "no token store in"),
        (b"", "no token store in"),
        (None, "no token store in"),
    ):
        table.unlink()
        if damaged is not None:
            table.write_bytes(damaged)
        with pytest.raises(DataError, match=told):
            open_store(whole, tmp_path)
        table.write_bytes(content)
    for manifest in ("", "{", "[]", "null", "{}", '{"format": 2}', '{"format": 2, "records": 50, "table": 3}'):
        (whole / "store.json").write_text(manifest)
        with pytest.raises(DataError, match="no token store in"):
            open_store(whole, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "manifest"])
def test_a_damaged_store_is_made_again(
    image_root: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    source, store = write(tmp_path / "data.json", [sound("a", "a.png"), sound("b")]), tmp_path / "store"
    first = prepare(source, image_root, tiny_base / "llm", store)
    table = store / "records.arrow"
    content = table.read_bytes()
    if damage == "gone":
        table.unlink()
    elif damage == "manifest":
        (store / "store.json").write_text("{")
    else:
        flipped = bytearray(content)
        flipped[len(content) // 2] ^= 1
        table.write_bytes(content[:100] if damage == "cut" else flipped)
    assert prepare(source, image_root, tiny_base / "llm", store) == first
    assert table.read_bytes() == content
    assert "is damaged" in capsys.readouterr().err
