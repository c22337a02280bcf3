"""Records come out of every kind of source alike, and what is broken in a file costs no more than itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
from bad_cases import sound, talk, write
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from moslora_xtuner.data.reading.sources import Broken, Entry, Source, json_array, open_sources
from moslora_xtuner.data.reading.sources.text import TextSource
from moslora_xtuner.errors import DataError, UsageError


def entries(source: Source | Path, size: int = 3) -> list[Entry]:
    if isinstance(source, Path):
        (source,) = open_sources(source)
    reader = source.reader
    return [entry for chunk in reader.chunks(size) for entry in reader.read(chunk)]


def raws(source: Source | Path, size: int = 3) -> list[Any]:
    return [entry.raw for entry in entries(source, size)]


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(values, min_size=1, max_size=8), ascii=st.booleans(), indent=st.sampled_from([None, 0, 3]))
def test_a_list_is_what_json_reads(tmp_path: Path, records: list[Any], ascii: bool, indent: int | None) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records, ensure_ascii=ascii, indent=indent), encoding="utf-8", errors="surrogatepass")
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    assert raws(path) == json.loads(path.read_bytes())
    assert [entry.position for entry in entries(path)] == list(range(len(records)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(values, min_size=1, max_size=6), block=st.integers(1, 40))
def test_a_window_of_any_size_reads_the_same(tmp_path: Path, records: list[Any], block: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_array, "BLOCK", block)
        assert raws(path) == records


def test_bytes_lead_to_the_records(tmp_path: Path) -> None:
    records = [{"id": "ä" * n, "text": "数字 \u2028"} for n in range(5)]
    for path in (tmp_path / "a.json", tmp_path / "a.jsonl"):
        encoded = [json.dumps(record, ensure_ascii=False).encode() for record in records]
        write(path, encoded)
        found = entries(path)
        assert [entry.raw for entry in found] == records
        text = path.read_bytes()
        assert all(text[e.byte :].startswith(want) for e, want in zip(found, encoded, strict=True))


def test_lines_may_be_empty_end_with_cr_and_begin_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.JSONL"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1}\r\n\n  \n{"id": "\xe2\x80\xa8"}')
    assert raws(path) == [{"id": 1}, {"id": "\u2028"}]
    assert [entry.byte for entry in entries(path)] == [3, 18]


def test_a_list_may_begin_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf [{"id": 1}]\n')
    assert raws(path) == [{"id": 1}]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # what is read, the error at its byte where it is not
        ('[{"id": 1}, {"id" 2}, {"id": 3, "conversations": []}]', [1, ("Expecting ':' delimiter", 18), 3]),
        ('[{"id": 1} {"id": 2}]', [1, ("',' is missing between two records", 11), 2]),
        ('[{"id": 1},, {"id": 2}]', [1, ("a record is missing beside ','", 11), 2]),
        ('[{"id": 1},]', [1, ("a record is missing beside ','", 10)]),
        ('[,{"id": 1}]', [("a record is missing beside ','", 1), 1]),
        ('[{"id": 1}', [1, ("the file ends before its list does", 10)]),
        ('[{"id": 1}] ]', [1, ("text after the end of the list", 12)]),
        ('[{"id": 1}], {"id": 2}]', [1, ("text after the end of the list", 11), 2]),
        ('[{"id": 1}, {"id": "2', [1, ("Unterminated string starting at", 19)]),
        ('[{"id": 1}, {"id": 2', [1, ("Expecting ',' delimiter", 20)]),
    ],
)
def test_reads_on_after_what_is_broken(tmp_path: Path, text: str, wanted: list[Any]) -> None:
    (tmp_path / "a.json").write_text(text)
    found = [
        (entry.raw.detail, entry.byte) if isinstance(entry.raw, Broken) else entry.raw["id"]
        for entry in entries(tmp_path / "a.json")
    ]
    assert found == wanted


def test_only_what_is_broken_is_lost(tmp_path: Path) -> None:
    """Cut the end off one record, and the next one's beginning; the others come."""
    parts = [json.dumps(sound(f"r{n}")) for n in range(9)]
    parts[4] = parts[4][:-7]
    text = "[" + ",\n".join(parts) + "]"
    (tmp_path / "a.json").write_text(text)
    found = entries(tmp_path / "a.json")
    ids = [entry.raw["id"] for entry in found if isinstance(entry.raw, dict)]
    assert ids == [f"r{n}" for n in range(9) if n != 4]
    (broken,) = [entry for entry in found if isinstance(entry.raw, Broken)]
    assert broken.position == 4
    assert broken.byte is not None
    assert text.index('"r4"') < broken.byte < text.index('"r5"')


def test_too_deep_and_too_many_digits(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    for text in (deep, "9" * 5000):
        write(tmp_path / "a.json", [sound("r0"), text, sound("r2")])
        write(tmp_path / "a.jsonl", [sound("r0"), text, sound("r2")])
        for path in (tmp_path / "a.json", tmp_path / "a.jsonl"):
            kinds = [e.raw.kind if isinstance(e.raw, Broken) else e.raw["id"] for e in entries(path)]
            assert kinds == ["r0", "broken JSON", "r2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"id": 1}', "not a JSON list.*name it .jsonl"),
        ("a.json", b"3", "not a JSON list"),
        ("a.json", b"\xff\xfe[\0]\0", "is UTF-16"),
        ("a.jsonl", b"\xff\xfe[\0]\0", "is UTF-16"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as fault:
        entries(tmp_path / name)
    assert str(tmp_path / name) in str(fault.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        open_sources(tmp_path / "none.json")
    with pytest.raises(DataError, match="save_to_disk"):
        open_sources(tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), lines=st.booleans())
def test_mutated_files_never_raise_and_keep_what_is_whole(tmp_path: Path, seed: int, lines: bool) -> None:
    """Bytes changed, cut out, doubled: no traceback, no hang, and every record that no change touched is read."""
    draw = random.Random(seed)
    path = tmp_path / ("a.jsonl" if lines else "a.json")
    write(path, [sound(f"r{n}", "a.png") for n in range(12)])
    content = bytearray(path.read_bytes())
    # In a list the first and the last byte say that it is one.
    low, high = (0, len(content)) if lines else (1, len(content) - 1)
    touched = []
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(low, high)
        touched.append(at)
        content[at] = draw.choice([*b'{}[]",:\\ \n', 0, 255, draw.randrange(256)])
    path.write_bytes(bytes(content))
    found = entries(path)
    read = {e.raw.get("id") for e in found if isinstance(e.raw, dict)}
    starts = [content.find(f'{{"id": "r{n}"'.encode()) for n in range(12)]
    hurt = {n for at in touched for n in range(12) if any(abs(at - s) < 130 for s in (starts[n],)) or starts[n] < 0}
    assert {f"r{n}" for n in range(12)} - read <= {f"r{n}" for n in hurt}
    assert [e.position for e in found] == sorted(e.position for e in found)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), lines=st.booleans())
@example(content=b"\xef\xbb\xbf", lines=True)
def test_any_bytes_are_named_or_refused(tmp_path: Path, content: bytes, lines: bool) -> None:
    path = tmp_path / ("b.jsonl" if lines else "b.json")
    path.write_bytes(content if lines else b"[" + content)
    if lines and content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        with pytest.raises(DataError, match="UTF-16"):
            entries(path)
        return
    try:
        found = entries(path)
    except DataError as fault:
        if ", not JSON: " not in str(fault):  # sources/packed.py
            raise
        return
    assert [entry.position for entry in found] == sorted(entry.position for entry in found)
    assert found or (lines and not content.removeprefix(b"\xef\xbb\xbf").strip())


def test_a_datasets_folder(tmp_path: Path) -> None:
    records = [
        sound("a", "a.png"),
        sound("t"),
        {**sound("b", "b.png"), "conversations": talk("<image>", "A", "Q", "B")},
    ]
    columns = {key: [record.get(key) for record in records] for key in ("id", "image", "conversations")}
    table = datasets.Dataset.from_dict(columns)
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path / "two")
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "three")
    assert raws(tmp_path / "one", 2) == records
    assert raws(tmp_path / "two") == records
    assert [entry.byte for entry in entries(tmp_path / "one")] == [None] * 3
    with pytest.raises(DataError, match="has the splits test"):
        raws(tmp_path / "three")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    pictures = datasets.Dataset.from_dict({"image": [str(tmp_path / "x.png")]}).cast_column("image", datasets.Image())
    pictures.save_to_disk(tmp_path / "four")
    with pytest.raises(DataError, match="the column image holds pictures"):
        raws(tmp_path / "four")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"")
    with pytest.raises(DataError, match="no dataset that can be read"):
        raws(tmp_path / "one")


def test_messages_of_a_datasets_folder_kept_as_columns(tmp_path: Path) -> None:
    """A Sequence of a struct comes out of `datasets` as one struct of lists."""
    features = datasets.Features(
        id=datasets.Value("string"),
        conversations=datasets.Sequence({"from": datasets.Value("string"), "value": datasets.Value("string")}),
    )
    row = {"id": "t", "conversations": {"from": ["human", "gpt"], "value": ["Q", "A"]}}
    datasets.Dataset.from_list([row], features=features).save_to_disk(tmp_path / "one")
    assert raws(tmp_path / "one") == [sound("t")]


@given(weight=st.floats(0.01, 5), size=st.integers(1, 60), total=st.integers(1, 300))
def test_weights_are_exact_whatever_the_chunks(weight: float, size: int, total: int) -> None:
    source = Source("a", TextSource(Path("a.json")), weight)
    copies = [n for first in range(0, total, size) for n in source.copies(first, min(size, total - first))]
    assert len(copies) == total
    assert sum(copies) == int(weight * total)
    assert set(copies) <= {int(weight), int(weight) + 1}


def test_weights_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "a.json", [sound("r")])
    write(tmp_path / "b@2.json", [sound("r")])
    (source,) = open_sources([f"{tmp_path / 'a.json'}@0.5"])
    assert (source.name, source.weight, source.reader.path) == ("a.json", 0.5, tmp_path / "a.json")
    assert Counter(source.copies(0, 1000)) == {0: 500, 1: 500}
    assert source.copies(0, 1000) != source.copies(1000, 1000)
    (named,) = open_sources(tmp_path / "b@2.json")
    assert (named.name, named.weight) == ("b@2.json", 1.0)
    for wrong in ("x", "0", "-1", "nan", "inf"):
        with pytest.raises(UsageError, match="weight"):
            open_sources([f"{tmp_path / 'a.json'}@{wrong}"])
    with pytest.raises(UsageError, match=r"given twice.*a\.json@2"):
        open_sources([tmp_path / "a.json", tmp_path / "a.json"])


def test_names_tell_sources_apart(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    paths = [tmp_path / "a.json", tmp_path / "b.json", tmp_path / "deep" / "b.json"]
    for path in paths:
        write(path, [sound("r")])
    assert [source.name for source in open_sources(paths)] == ["a.json", str(paths[1]), str(paths[2])]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"image": "a.png", "id" : "r7", "conversations": nul}', "r7"),
        ('{"id": 12, "conversations": nul}', "12"),
        ('{"id": "ä \\" b", "conversations": nul}', 'ä \\" b'),
        ('{"conversations": nul}', "?"),
        ('{"id": "cut', "?"),
    ],
)
def test_what_is_broken_has_a_name_if_it_can_be_read(tmp_path: Path, text: str, name: str) -> None:
    for path in (tmp_path / "a.json", tmp_path / "a.jsonl"):
        write(path, [sound("r0"), text])
        broken = next(entry.raw for entry in entries(path) if isinstance(entry.raw, Broken))
        assert broken.record == name
