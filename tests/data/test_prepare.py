"""The token store holds every record, once, or is not made at all."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
import standins
from bad_cases import CASES, sound, talk, write, write_case
from warm.forks import at_work

from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.data.tokens.store import Table
from moslora_xtuner.data.tokens.tokenise import IMAGE_TOKEN_INDEX
from moslora_xtuner.errors import ConfigError, DataError, OutputError, UsageError
from moslora_xtuner.hashing import sha256, tokenizer_hash

WriteJson = Callable[[list[Any]], Path]


def record(name: str, image: str | None = None, question: str = "Q", answer: str = "A") -> dict[str, Any]:
    text = question if image is None else f"<image>\n{question}"
    made: dict[str, Any] = {
        "id": name,
        "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": answer}],
    }
    return made if image is None else {**made, "image": image}


def rows(store: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pa.ipc.open_file(str(store / "records.arrow")).read_all().to_pylist()
    return found


def problems(store: Path) -> list[tuple[str, str]]:
    """Ids and kinds that the store names."""
    lines = [json.loads(line) for line in (store / "problems.jsonl").read_text().splitlines()]
    return [(line["record"], line["kind"]) for line in lines]


def test_images_arrive_although_the_first_record_has_none(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """XTuner's loader takes its columns from the first record and then drops every image in silence."""
    records = [record("t"), record("a", "a.png"), record("u"), record("b", "deep/b.png")]
    store = tmp_path / "store"
    source = write_json(records)
    manifest = prepare(source, image_root, tiny_base / "llm", store)
    found = rows(store)
    assert [(row["id"], row["images"], row["image_count"]) for row in found] == [
        ("t", [], 0),
        ("a", ["a.png"], 1),
        ("u", [], 0),
        ("b", ["deep/b.png"], 1),
    ]
    assert [row["input_ids"].count(IMAGE_TOKEN_INDEX) for row in found] == [0, 1, 0, 1]
    assert [row["length"] for row in found] == [len(row["input_ids"]) for row in found]
    assert all(len(row["labels"]) == row["length"] for row in found)
    # `A<|eot_id|>`: two tokens with a loss, for XTuner's own labels see test_tokenise.py.
    assert [row["supervised"] for row in found] == [2, 2, 2, 2]
    counts = {name: manifest[name] for name in ("records", "text_only", "truncated", "left_out", "tokens")}
    tokens = sum(row["length"] for row in found)
    assert counts == {"records": 4, "text_only": 2, "truncated": 0, "left_out": 0, "tokens": tokens}
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert manifest["sources"] == [{"name": "train.json", "sha256": digest, "weight": 1.0}]
    assert json.loads((store / "store.json").read_text()) == manifest


def test_more_records_than_a_batch(write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path) -> None:
    records = [record(str(n), answer=str(n)) for n in range(2001)]
    prepare(write_json(records), image_root, tiny_base / "llm", tmp_path / "store")
    assert [row["id"] for row in rows(tmp_path / "store")] == [str(n) for n in range(2001)]


def test_bad_records_stop_it_with_the_table_and_leave_nothing(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    source = write_json([record("a", "a.png"), record("gone", "none.png"), record("cut", "truncated.png")])
    with pytest.raises(DataError, match="2 faults in 2 records") as fault:
        prepare(source, image_root, tiny_base / "llm", tmp_path / "store")
    assert "id gone" in str(fault.value)
    assert "id cut" in str(fault.value)
    assert set(tmp_path.iterdir()) - before == {source}


def test_long_records_are_cut_and_counted(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    records = [record("short"), record("long", "a.png", answer="7 " * 300)]
    manifest = prepare(write_json(records), image_root, tiny_base / "llm", tmp_path / "store", max_length=100)
    assert manifest["truncated"] == 1
    assert problems(tmp_path / "store") == [("long", "over-long text")]
    assert [row["length"] == 100 for row in rows(tmp_path / "store")] == [False, True]


def test_an_image_that_would_be_cut_away_is_refused(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    late = record("late", question="x" * 300)
    late["conversations"] += [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "B"}]
    late["image"] = "a.png"
    source = write_json([late])
    with pytest.raises(DataError, match=r"image cut off: 1(.|\n)*id late, byte 1\): cut at 100 before its image"):
        prepare(source, image_root, tiny_base / "llm", tmp_path / "store", max_length=100)
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.glob(".store*"))


def test_a_record_cut_before_its_first_answer_is_not_kept_silently(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Without a label a record teaches nothing, and a batch of such records has the loss nan."""
    source = write_json([record("mute", question="x" * 300)])
    with pytest.raises(DataError, match=r"no answer left: 1(.|\n)*id mute, byte 1\): nothing to learn in 100 tokens"):
        prepare(source, image_root, tiny_base / "llm", tmp_path / "store", max_length=100)


def test_the_same_store_is_used_again_and_another_refused(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    source, store = write_json([record("a", "a.png")]), tmp_path / "store"
    first = prepare(source, image_root, tiny_base / "llm", store)
    age = (store / "records.arrow").stat().st_mtime_ns
    (image_root / "a.png").unlink()  # reading nothing again, it does not notice
    assert prepare(source, image_root, tiny_base / "llm", store) == first
    assert (store / "records.arrow").stat().st_mtime_ns == age
    with pytest.raises(OutputError, match="max_length"):
        prepare(source, image_root, tiny_base / "llm", store, max_length=50)
    source.write_text(json.dumps([record("b")]))
    with pytest.raises(OutputError, match="sources"):
        prepare(source, image_root, tiny_base / "llm", store)


@pytest.mark.parametrize("name", CASES)
def test_every_bad_record_stops_it_or_is_left_out_and_counted(name: str, tiny_base: Path, tmp_path: Path) -> None:
    case = CASES[name]
    source, images = write_case(case, tmp_path)
    store = tmp_path / "store"
    with pytest.raises(DataError, match=re.escape(f"{case.kind}: 1")) as fault:
        prepare(source, images, tiny_base / "llm", store)
    assert f"record 1 (id {case.name}, byte " in str(fault.value)
    assert "1 of 3 records are bad (33 %)" in str(fault.value)
    assert not store.exists()
    manifest = prepare(source, images, tiny_base / "llm", store, skip_bad=0.34)
    assert (manifest["records"], manifest["read"], manifest["left_out"]) == (2, 3, 1)
    assert [row["id"] for row in rows(store)] == ["first", "last"]
    assert (case.name, case.kind) in problems(store)
    # What was allowed once is not allowed for ever.
    with pytest.raises(DataError, match="leaves out 1 of 3 records"):
        prepare(source, images, tiny_base / "llm", store)


def test_sources_of_every_kind_with_weights(image_root: Path, tiny_base: Path, tmp_path: Path) -> None:
    datasets.Dataset.from_list([sound("d", "a.png")]).save_to_disk(tmp_path / "table")
    write(tmp_path / "a.json", [sound(f"a{n}") for n in range(4)])
    write(tmp_path / "b.jsonl", [sound("b", "deep/b.png")])
    sources = [f"{tmp_path / 'a.json'}@0.5", tmp_path / "b.jsonl", f"{tmp_path / 'table'}@3"]
    manifest = prepare(sources, image_root, tiny_base / "llm", tmp_path / "store")
    ids = [row["id"] for row in rows(tmp_path / "store")]
    assert (len(ids[:2]), ids[2:]) == (2, ["b", "d", "d", "d"])
    assert set(ids[:2]) < {f"a{n}" for n in range(4)}
    assert [source["weight"] for source in manifest["sources"]] == [0.5, 1.0, 3.0]
    assert (manifest["read"], manifest["records"], manifest["text_only"]) == (6, 6, 2)


def test_several_images_a_record(image_root: Path, tiny_base: Path, tmp_path: Path) -> None:
    both = {**sound("both", "a.png"), "image": ["a.png", "deep/b.png"], "conversations": talk("<image> <image>", "A")}
    source = write(tmp_path / "a.json", [sound("a", "a.png"), both])
    with pytest.raises(DataError, match=r"too many images: 1(.|\n)*--max-images"):
        prepare(source, image_root, tiny_base / "llm", tmp_path / "store")
    prepare(source, image_root, tiny_base / "llm", tmp_path / "store", max_images=2)
    row = rows(tmp_path / "store")[1]
    assert (row["images"], row["image_count"]) == (["a.png", "deep/b.png"], 2)
    assert row["input_ids"].count(IMAGE_TOKEN_INDEX) == 2


def test_processes_write_the_same_file_as_one(image_root: Path, tiny_base: Path, tmp_path: Path) -> None:
    records = [record(str(n), "a.png" if n % 4 else None, answer="7 " * (1 + n % 50)) for n in range(1700)]
    source = write(tmp_path / "a.json", records)
    for workers in (1, 2):
        prepare(source, image_root, tiny_base / "llm", tmp_path / f"store{workers}", max_length=90, workers=workers)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / f"store{w}").iterdir()} for w in (1, 2))
    assert one == two
    assert set(one) == {".moslora.json", "problems.jsonl", "records.arrow", "store.json"}


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 1.0])
def test_a_kill_leaves_nothing_that_looks_finished(
    after: float, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "a.json", [record(str(n), "a.png", answer="7 " * 300) for n in range(20_000)])
    store = tmp_path / "store"
    command = [sys.executable, "-m", "moslora_xtuner", "data", "prepare", str(source), "--images", str(image_root)]
    command += ["--model", str(tiny_base / "llm"), "-o", str(store)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".store.partial-*/records.arrow")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(after)
        assert process.poll() is None  # it was still at work
        workers = children(at_work(process.pid))
        assert workers or not after  # the first moment is before they are there
        process.kill()
        process.wait()
    assert not store.exists()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):  # nobody would ever end them
        assert time.monotonic() < deadline
        time.sleep(0.1)
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "what an interrupted run left" in said.stderr
    assert len(Table(store / "records.arrow")) == 20_000


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in found]


def test_a_folder_that_is_not_ours_is_left_alone(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not made by moslora"):
        prepare(write_json([record("a")]), image_root, tiny_base / "llm", tmp_path / "store")
    assert (tmp_path / "store" / "thesis.txt").read_text() == "mine"


def test_names_a_missing_tokenizer_and_template(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    source = write_json([record("a")])
    with pytest.raises(ConfigError, match="no tokenizer"):
        prepare(source, image_root, tmp_path, tmp_path / "store")
    with pytest.raises(UsageError, match="no chat template"):
        prepare(source, image_root, tiny_base / "llm", tmp_path / "store", template="x")


def test_the_template_is_the_tokenizers_own(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    source = write_json([record("a")])
    assert prepare(source, image_root, tiny_base / "llm", tmp_path / "llama")["template"] == "llama3_chat"
    internlm2 = standins.make_internlm2(tmp_path / "internlm2")
    assert prepare(source, image_root, internlm2, tmp_path / "intern")["template"] == "internlm2_chat"


def test_a_tokenizer_without_the_templates_tokens_is_refused(
    write_json: WriteJson, image_root: Path, tmp_path: Path
) -> None:
    """A base model's tokenizer splits <|eot_id|> into pieces, and training would teach those."""
    source = write_json([record("a")])
    internlm2 = standins.make_internlm2(tmp_path / "internlm2")
    with pytest.raises(DataError, match=r"has no token .*<\|eot_id\|>.* which the template llama3_chat needs"):
        prepare(source, image_root, internlm2, tmp_path / "store", template="llama3_chat")
    config = internlm2 / "tokenizer_config.json"
    config.write_text(config.read_text().replace("<|im_end|>", "<|other|>"))
    with pytest.raises(DataError, match="the special tokens of no known chat template"):
        prepare(source, image_root, internlm2, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_tokenizer_hash_sees_a_new_token(llama3_tokenizer: Any, internlm2_tokenizer: Any) -> None:
    import copy

    other = copy.deepcopy(llama3_tokenizer)
    assert tokenizer_hash(other) == tokenizer_hash(llama3_tokenizer)
    other.add_tokens(["<new>"])
    assert len({tokenizer_hash(t) for t in (llama3_tokenizer, other, internlm2_tokenizer)}) == 3


def test_sha256_of_a_file_longer_than_a_block(tmp_path: Path) -> None:
    content = b"0123456789abcdef" * 70_000
    (tmp_path / "f").write_bytes(content)
    assert sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()
