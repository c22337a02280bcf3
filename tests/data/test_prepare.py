"""The token store holds every record, once, or is not made at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import standins

from moslora_xtuner.data.prepare import prepare, sha256, tokenizer_hash
from moslora_xtuner.data.tokenise import IMAGE_TOKEN_INDEX
from moslora_xtuner.errors import ConfigError, DataError, OutputError, UsageError

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


def test_images_arrive_although_the_first_record_has_none(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """XTuner's loader takes its columns from the first record and then drops every image in silence."""
    records = [record("t"), record("a", "a.png"), record("u"), record("b", "deep/b.png")]
    store = tmp_path / "store"
    source = write_json(records)
    manifest = prepare(source, image_root, tiny_base / "llm", store)
    found = rows(store)
    assert [(row["id"], row["image"]) for row in found] == [
        ("t", None),
        ("a", "a.png"),
        ("u", None),
        ("b", "deep/b.png"),
    ]
    assert [row["input_ids"].count(IMAGE_TOKEN_INDEX) for row in found] == [0, 1, 0, 1]
    assert [row["length"] for row in found] == [len(row["input_ids"]) for row in found]
    assert all(len(row["labels"]) == row["length"] for row in found)
    assert (manifest["records"], manifest["text_only"], manifest["truncated"]) == (4, 2, [])
    assert manifest["source"] == hashlib.sha256(source.read_bytes()).hexdigest()
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
    with pytest.raises(DataError, match="2 problems") as fault:
        prepare(source, image_root, tiny_base / "llm", tmp_path / "store")
    assert "id gone" in str(fault.value)
    assert "id cut" in str(fault.value)
    assert set(tmp_path.iterdir()) - before == {source}


def test_long_records_are_cut_and_counted(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    records = [record("short"), record("long", "a.png", answer="7 " * 300)]
    manifest = prepare(write_json(records), image_root, tiny_base / "llm", tmp_path / "store", max_length=100)
    assert manifest["truncated"] == ["long"]
    assert [row["length"] == 100 for row in rows(tmp_path / "store")] == [False, True]


def test_an_image_that_would_be_cut_away_is_refused(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    late = record("late", question="x" * 300)
    late["conversations"] += [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "B"}]
    late["image"] = "a.png"
    source = write_json([late])
    with pytest.raises(DataError, match=r"late.*before its image"):
        prepare(source, image_root, tiny_base / "llm", tmp_path / "store", max_length=100)
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.glob(".store*"))


def test_a_record_cut_before_its_first_answer_is_not_kept_silently(
    write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Without a label a record teaches nothing, and a batch of such records has the loss nan."""
    source = write_json([record("mute", question="x" * 300)])
    with pytest.raises(DataError, match="mute"):
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
    with pytest.raises(OutputError, match="source"):
        prepare(source, image_root, tiny_base / "llm", store)


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
