"""The stand-in for LLaVA-1.5's mix: shares, sound records, images that are there, and the same bytes again."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import make_mix_like as script
import numpy as np
import pytest
from PIL import Image
from synthetic.mix import pictures

from moslora_xtuner.data.reading.records import read_record
from moslora_xtuner.data.tokens.chat_templates import require_special_tokens
from moslora_xtuner.errors import DataError, OutputError, UsageError
from moslora_xtuner.llm.load import load_tokenizer

RECORDS = 3000
PUBLISHED = {"coco": 364100, "vg": 86417, "gqa": 72140, "ocr_vqa": 80000, "textvqa": 21953, "text only": 40688}


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one with seed 0."""
    folder = tmp_path_factory.mktemp("mix") / "made"
    script.make_mix(folder, RECORDS)
    return folder


def load(folder: Path) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((folder / "mix.json").read_text(encoding="ascii"))
    return records


def source(record: dict[str, Any]) -> str:
    return str(record["image"]).split("/")[0] if "image" in record else "text only"


def test_the_published_number_has_the_published_shares() -> None:
    assert script.shares(665_298) == PUBLISHED


def test_the_largest_remainders_are_rounded_up() -> None:
    # 547.27, 129.89, 108.43, 120.25, 33.00 - 0.003, 61.16: three are missing when all are rounded down
    wanted = {"coco": 547, "vg": 130, "gqa": 109, "ocr_vqa": 120, "textvqa": 33, "text only": 61}
    assert script.shares(1000) == wanted


@pytest.mark.parametrize("records", range(1, 11))
def test_the_smallest_files_are_whole(tmp_path: Path, records: int) -> None:
    script.make_mix(tmp_path / "made", records)
    made = load(tmp_path / "made")
    assert len(made) == records
    assert "image" in made[0]


@pytest.mark.parametrize("seed", range(20))
def test_the_first_record_has_an_image_and_the_shares_stay(seed: int) -> None:
    plan = script.make_plan(40, seed)
    names, counts = np.unique(plan.order, return_counts=True)
    assert script.SOURCES[plan.order[0]] != "text only"
    assert {script.SOURCES[name]: count for name, count in zip(names, counts, strict=True)} == script.shares(40)


def test_every_record_is_sound_and_names_an_image_that_opens(mix: Path) -> None:
    made = load(mix)
    for position, raw in enumerate(made):
        record, problems = read_record(raw, position)
        assert problems == []
        assert record is not None
        assert record.turns[0][0].count("<image>") == len(record.images)
        for image in record.images:
            folders = {"coco": 2, "gqa": 2, "ocr_vqa": 2, "textvqa": 2, "vg": 1}[source(raw)]
            assert raw["id"] == image.split("/", folders)[-1].removesuffix(".jpg")
    for path in {raw["image"] for raw in made if "image" in raw}:
        with Image.open(mix / "images" / path) as image:
            image.load()
            assert image.size == (24, 18)
            assert image.format == "JPEG"


def test_images_repeat_as_they_do_in_the_published_file(mix: Path) -> None:
    by_source: dict[str, list[str]] = {}
    for raw in load(mix):
        by_source.setdefault(source(raw), []).append(raw.get("image", raw["id"]))
    for name, paths in by_source.items():
        if name == "coco":  # n draws from m images find m (1 - exp(-n / m)) of them
            pool = 118_287 / 665_298 * RECORDS
            assert len(set(paths)) == pytest.approx(pool * (1 - np.exp(-364_100 / 118_287)), rel=0.03)
        else:
            assert len(set(paths)) == len(paths)
    assert {path.split("/")[1] for path in by_source["vg"]} == {"VG_100K", "VG_100K_2"}


def test_the_lengths_are_those_that_were_aimed_at(mix: Path) -> None:
    made = load(mix)
    lengths = [sum(len(message["value"]) for message in raw["conversations"]) for raw in made]
    assert np.mean(lengths) == pytest.approx(290 * 4.4, rel=0.05)
    assert 0.02 < np.mean(np.array(lengths) > 1472 * 4.4) < 0.06
    firsts = [raw["conversations"][0]["value"] for raw in made if "image" in raw]
    assert np.mean([first.endswith("\n<image>") for first in firsts]) == pytest.approx(0.5, abs=0.05)
    assert all(first.startswith("<image>\n") or first.endswith("\n<image>") for first in firsts)
    spoken = [message["value"] for raw in made if "image" not in raw for message in raw["conversations"]]
    assert any("```python" in value for value in spoken)
    assert any("\u4e00" <= character <= "\u9fff" for value in spoken for character in value)


def test_the_statistics_are_those_of_the_file(mix: Path) -> None:
    stats = json.loads((mix / "mix.stats.json").read_text())
    made = load(mix)
    text_only = [raw for raw in made if "image" not in raw]
    assert (stats["records"], stats["text only"]) == (len(made), len(text_only))
    assert stats["with image"] == len(made) - len(text_only)
    assert stats["bytes"] == len((mix / "mix.json").read_bytes())
    assert stats["images"] == len({raw["image"] for raw in made if "image" in raw})
    assert stats["images"] == sum(path.is_file() for path in (mix / "images").rglob("*"))
    assert stats["turns mean"] == pytest.approx(np.mean([len(raw["conversations"]) / 2 for raw in made]), abs=0.01)
    letters = [
        sum(len(message["value"]) for message in raw["conversations"]) - len("<image>\n") * ("image" in raw)
        for raw in made
    ]
    assert stats["characters mean"] == pytest.approx(np.mean(letters), abs=0.1)


def test_the_same_seed_gives_the_same_bytes(mix: Path, tmp_path: Path) -> None:
    script.make_mix(tmp_path / "again", RECORDS)
    script.make_mix(tmp_path / "other", RECORDS, seed=1)
    first = (mix / "mix.json").read_bytes()
    assert (tmp_path / "again" / "mix.json").read_bytes() == first
    assert (tmp_path / "other" / "mix.json").read_bytes() != first
    script.make_mix(tmp_path / "again", RECORDS)  # its own folder: written once more
    assert (tmp_path / "again" / "mix.json").read_bytes() == first


def test_one_image_per_source_changes_nothing_but_the_paths(mix: Path, tmp_path: Path) -> None:
    stats = script.make_mix(tmp_path / "one", RECORDS, layout="one-per-source")
    made = load(tmp_path / "one")
    paths = {raw["image"] for raw in made if "image" in raw}
    assert stats["images"] == len(paths) == 5
    assert all((tmp_path / "one" / "images" / path).is_file() for path in paths)
    for one, many in zip(made, load(mix), strict=True):
        assert source(one) == source(many)
        one.pop("image", None)
        many.pop("image", None)
        assert one == many


def test_a_folder_with_other_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mix.json").write_text("mine")
    with pytest.raises(OutputError, match="not made by moslora"):
        script.make_mix(tmp_path, 3)
    assert (tmp_path / "mix.json").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mix.json"]


def test_other_settings_do_not_mix_with_an_earlier_file(mix: Path) -> None:
    with pytest.raises(OutputError, match="records was 3000, is 10"):
        script.make_mix(mix, 10)
    with pytest.raises(UsageError, match="at least 1"):
        script.make_mix(mix, 0)


def test_no_file_has_more_names_than_a_file_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LINKS", 3)
    assert pictures.write_pictures(tmp_path, [f"a/{number}.jpg" for number in range(7)], 0) == 7
    links = sorted(path.stat().st_nlink for path in (tmp_path / "a").iterdir())
    assert links == [1, 3, 3, 3, 3, 3, 3]


def test_where_links_are_refused_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    pictures.write_pictures(tmp_path, ["a.jpg", "b.jpg"], 0)
    assert (tmp_path / "a.jpg").read_bytes() == (tmp_path / "b.jpg").read_bytes()
    assert (tmp_path / "b.jpg").stat().st_nlink == 1


@pytest.mark.parametrize("number", ["0306406152", "097522980X", "0131103628"])
def test_check_digits_are_those_of_real_books(number: str) -> None:
    assert pictures.isbn(int(number[:9])) == number


def test_the_tokenizer_is_cut_like_llama_3_and_loads(mix: Path, tmp_path: Path) -> None:
    folder = script.train_tokenizer(tmp_path / "tokenizer", mix / "mix.json", vocabulary=1500)
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == 1500
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|begin_of_text|>", "<|eot_id|>")
    require_special_tokens(tokenizer, "llama3_chat")
    text = "We'LL see 12345 cats,\n\n  \u4f60\u597d \U0001f60a!"
    ids = tokenizer.encode(text)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("We'LL see 12345 cats,\n\n  x [0.12]")
    cut = ["We", "'LL", "Ġsee", "Ġ", "123", "45", "Ġcats", ",ĊĊ", "Ġ", "Ġx", "Ġ[", "0", ".", "12", "]"]
    assert [piece for piece, _ in pieces] == cut
    assert len(tokenizer.encode("What is in the image?", add_special_tokens=False)) == 6  # frequent words are whole


def test_a_tokenizer_needs_a_file_of_this_script(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(DataError, match=r"make_mix_like\.py"):
        script.train_tokenizer(tmp_path / "tokenizer", tmp_path / "other.json")
    assert not (tmp_path / "tokenizer").exists()
