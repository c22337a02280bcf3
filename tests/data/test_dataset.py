"""Rows of the store with their images, and batches of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_cases import image_folder, sound, write
from transformers import CLIPImageProcessor

from moslora_xtuner.data.dataset import TokenStore, collate
from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from moslora_xtuner.errors import DataError


@pytest.fixture(scope="module")
def processor(tiny_base: Path) -> Any:
    return CLIPImageProcessor.from_pretrained(tiny_base / "visual_encoder")


@pytest.fixture(scope="module")
def store(tiny_data: Path, processor: Any, llama3_tokenizer: Any) -> TokenStore:
    return TokenStore(str(tiny_data / "store"), str(tiny_data / "images"), processor, llama3_tokenizer, "llama3_chat")


def test_holds_every_record_in_order(store: TokenStore, tiny_data: Path) -> None:
    records = json.loads((tiny_data / "train.json").read_text(encoding="utf-8"))
    assert len(store) == len(records) == 48
    for place, record in enumerate(records):
        item = store[place]
        assert ("pixel_values" in item) == ("image" in record)
        assert (IMAGE_TOKEN_INDEX in item["input_ids"]) == ("image" in record)
        if "image" in record:
            assert item["pixel_values"].shape == (1, 3, 48, 48)


def test_the_sign_of_the_modality_length_says_whether_there_is_an_image(store: TokenStore, tiny_data: Path) -> None:
    records = json.loads((tiny_data / "train.json").read_text(encoding="utf-8"))
    wanted = [len(store[place]["input_ids"]) * (1 if "image" in record else -1) for place, record in enumerate(records)]
    assert store.modality_length == wanted
    assert min(wanted) < 0 < max(wanted)


def test_config_dicts_are_built(tiny_data: Path, tiny_base: Path) -> None:
    store = TokenStore(
        str(tiny_data / "store"),
        str(tiny_data / "images"),
        {
            "type": "transformers.CLIPImageProcessor.from_pretrained",
            "pretrained_model_name_or_path": str(tiny_base / "visual_encoder"),
        },
        {
            "type": "transformers.AutoTokenizer.from_pretrained",
            "pretrained_model_name_or_path": str(tiny_base / "llm"),
        },
    )
    assert isinstance(store.to_pixels.processor, CLIPImageProcessor)


def test_refuses_what_it_was_not_made_for(
    tiny_data: Path, processor: Any, internlm2_tokenizer: Any, tmp_path: Path
) -> None:
    folder, images = str(tiny_data / "store"), str(tiny_data / "images")
    with pytest.raises(DataError, match="another tokenizer"):
        TokenStore(folder, images, processor, internlm2_tokenizer)
    with pytest.raises(DataError, match="template llama3_chat, the config says internlm2_chat"):
        TokenStore(folder, images, processor, template="internlm2_chat")
    with pytest.raises(DataError, match=r"image folder .* does not exist"):
        TokenStore(folder, str(tmp_path / "none"), processor)
    with pytest.raises(DataError, match=r"no token store.*moslora data prepare"):
        TokenStore(str(tmp_path), images, processor)


def test_a_damaged_store_is_named(tiny_data: Path, processor: Any, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text((tiny_data / "store" / "store.json").read_text())
    whole = (tiny_data / "store" / "records.arrow").read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2]):
        (tmp_path / "records.arrow").write_bytes(damaged)
        with pytest.raises(DataError, match="no token store"):
            TokenStore(str(tmp_path), str(tiny_data / "images"), processor)


def test_xtuners_own_dataset_loses_what_this_one_keeps(
    tiny_base: Path, processor: Any, llama3_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first record has no image: XTuner takes its columns from it."""
    import xtuner.dataset.huggingface as upstream
    from xtuner.dataset import LLaVADataset
    from xtuner.dataset.map_fns import llava_map_fn, template_map_fn_factory
    from xtuner.utils import PROMPT_TEMPLATE

    images = image_folder(tmp_path / "images")
    source = write(tmp_path / "a.json", [sound("t"), sound("a", "a.png"), sound("b", "a.jpg")])
    whole = upstream.process
    monkeypatch.setattr(upstream, "process", lambda **options: whole(**{**options, "map_num_proc": None}))
    theirs = LLaVADataset(
        str(images),
        processor,
        str(source),
        llama3_tokenizer,
        dataset_map_fn=llava_map_fn,
        template_map_fn=template_map_fn_factory(template=PROMPT_TEMPLATE.llama3_chat),
        pad_image_to_square=True,
    )
    assert [bool(theirs[place]["pixel_values"].any()) for place in range(3)] == [False, False, False]
    prepare(source, images, tiny_base / "llm", tmp_path / "store")
    ours = TokenStore(str(tmp_path / "store"), str(images), processor, llama3_tokenizer)
    assert ["pixel_values" in ours[place] for place in range(3)] == [False, True, True]
    assert [ours[place]["input_ids"].tolist() for place in range(3)] == [theirs[n]["input_ids"] for n in range(3)]
    assert [ours[place]["labels"].tolist() for place in range(3)] == [theirs[n]["labels"] for n in range(3)]


def test_an_image_that_vanished_is_named_with_its_record(tiny_data: Path, processor: Any, tmp_path: Path) -> None:
    store = TokenStore(str(tiny_data / "store"), str(tmp_path), processor)
    at = store.modality_length.index(max(store.modality_length))
    named = rf"record {at} \(id digits-{at:06d}\): missing image: '{at:06d}.png' is not in"
    with pytest.raises(DataError, match=named):
        store[at]


def test_a_batch_by_hand() -> None:
    """One image of three patches and one text: the mark stands three times, the rest is padded on the right."""
    pixels = torch.ones(1, 3, 2, 2)
    batch = collate(
        [
            {"input_ids": [1, IMAGE_TOKEN_INDEX, 5, 6], "labels": [-100, -100, 5, 6], "pixel_values": pixels},
            {"input_ids": [1, 7], "labels": [-100, 7]},
        ],
        image_tokens=3,
        pad_index=9,
    )
    mark = IMAGE_TOKEN_INDEX
    data = batch["data"]
    assert batch["data_samples"] is None
    assert data["input_ids"].tolist() == [[1, mark, mark, mark, 5, 6], [1, 7, 9, 9, 9, 9]]
    assert data["labels"].tolist() == [[-100] * 4 + [5, 6], [-100, 7] + [IGNORE_INDEX] * 4]
    assert data["attention_mask"].tolist() == [[True] * 6, [True] * 2 + [False] * 4]
    assert data["pixel_values"].shape == (1, 3, 2, 2)


def test_a_batch_of_text_alone_has_no_pixels() -> None:
    data = collate([{"input_ids": [1, 2], "labels": [1, 2]}], image_tokens=3)["data"]
    assert "pixel_values" not in data
    assert data["input_ids"].tolist() == [[1, 2]]


def test_pixels_follow_the_rows(store: TokenStore) -> None:
    places = [place for place, length in enumerate(store.modality_length) if length > 0][:3]
    text = next(place for place, length in enumerate(store.modality_length) if length < 0)
    order = [places[2], text, places[0], places[1]]
    data = collate([store[place] for place in order], image_tokens=36)["data"]
    for found, place in zip(data["pixel_values"], (places[2], places[0], places[1]), strict=True):
        assert torch.equal(found[None], store[place]["pixel_values"])
    assert (data["input_ids"] == IMAGE_TOKEN_INDEX).sum(1).tolist() == [36, 0, 36, 36]
