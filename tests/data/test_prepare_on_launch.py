"""Training straight from a JSON goes through the same checks, once, and every process gets the same store."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_cases import CASES, image_folder, sound, write
from places import TESTS, python_path
from torch import distributed
from transformers import CLIPImageProcessor

from moslora_xtuner.data.dataset import TokenStore
from moslora_xtuner.errors import ConfigError, DataError


def train_on(source: Any, images: Path, base: Path, **options: Any) -> TokenStore:
    tokenizer = {
        "type": "moslora_xtuner.llm.load.load_tokenizer",
        "pretrained_model_name_or_path": str(base / "llm"),
        "padding_side": "right",
    }
    processor = CLIPImageProcessor.from_pretrained(base / "visual_encoder")
    given = str(source) if isinstance(source, Path) else [str(path) for path in source]
    return TokenStore(
        image_folder=str(images), image_processor=processor, tokenizer=tokenizer, data_path=given, **options
    )


def test_all_images_arrive_though_the_first_record_has_none(
    tiny_base: Path, tmp_path: Path, cache: Path, capsys: Any
) -> None:
    """XTuner takes its columns from the first record, and then has no image at all."""
    images = image_folder(tmp_path / "images")
    source = write(tmp_path / "a.json", [sound("t"), sound("a", "a.png"), sound("u"), sound("b", "a.jpg")])
    store = train_on(source, images, tiny_base, template="llama3_chat")
    assert ["pixel_values" in store[place] for place in range(4)] == [False, True, False, True]
    assert capsys.readouterr().err.count("moslora data prepare") == 1
    (folder,) = (cache / "stores").iterdir()
    age = (folder / "records.arrow").stat().st_mtime_ns
    again = train_on(source, images, tiny_base, template="llama3_chat")
    assert (folder / "records.arrow").stat().st_mtime_ns == age
    assert torch.equal(again[1]["pixel_values"], store[1]["pixel_values"])
    # A changed file is another store.
    write(source, [sound("t")])
    assert len(train_on(source, images, tiny_base)) == 1
    assert len(list((cache / "stores").iterdir())) == 2


def test_every_bad_record_stops_the_training_or_is_left_out_and_counted(tiny_base: Path, tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    for case in CASES.values():
        case.images(images)
    bad = [case.raw for case in CASES.values()]
    source = write(tmp_path / "a.jsonl", [sound("first"), *bad, sound("last", "a.png")])
    with pytest.raises(DataError) as fault:
        train_on(source, images, tiny_base)
    said = str(fault.value)
    assert all(f"{case.kind}: " in said for case in CASES.values())
    assert "record 1 (id bad, byte " in said
    assert f"{len(CASES)} of {len(CASES) + 2} records are bad" in said
    store = train_on(source, images, tiny_base, skip_bad=0.99)
    assert [store.table.row(place)["id"] for place in range(len(store))] == ["first", "last"]
    assert store.manifest["left_out"] == len(CASES)
    lines = (store.table.path.parent / "problems.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    for place, case in enumerate(CASES.values(), 1):
        assert (place, case.name, case.kind) in {(line["position"], line["record"], line["kind"]) for line in told}
    assert {line["position"] for line in told} == set(range(1, len(CASES) + 1))


def test_what_is_missing_is_said(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither store nor data_path"):
        TokenStore(image_folder=str(tmp_path))
    source = write(tmp_path / "a.json", [sound("t")])
    with pytest.raises(ConfigError, match="pretrained_model_name_or_path"):
        TokenStore(data_path=str(source), tokenizer=None)
    with pytest.raises(DataError, match="cannot read"):
        train_on(tmp_path / "none.json", tmp_path, tiny_base)


@pytest.mark.slow
@pytest.mark.parametrize(("image", "wanted"), [("a.png", "records: 2"), ("gone.png", "refused: 1")])
def test_every_process_has_the_store_or_stops(image: str, wanted: str, tiny_base: Path, tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    source = write(tmp_path / "a.json", [sound("t"), sound("a", image)])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    common["PYTHONPATH"] = python_path(TESTS)
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(source), str(images), str(tiny_base)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [rank.communicate(timeout=120)[0].strip().splitlines()[-1] for rank in ranks] == [wanted, wanted]


def train_as_one_of_many() -> None:
    """What each process of a launch does with its dataset, and says of it."""
    distributed.init_process_group("gloo")
    source, images, base = map(Path, sys.argv[1:])
    try:
        store = train_on(source, images, base)
    except DataError as fault:
        print("refused:", str(fault).count("missing image: 1"))
    else:
        print("records:", len(store))


if __name__ == "__main__":
    train_as_one_of_many()
