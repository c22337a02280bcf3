"""--epochs, --batch-size and --data change a config in every place that must follow."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.data.tokens.store import open_store
from moslora_xtuner.errors import ConfigError, DataError, UsageError
from moslora_xtuner.training.changes import own_data, sizes, validation_data
from moslora_xtuner.training.plan.setting import read_setting


def test_the_sampler_follows_the_batch() -> None:
    assert sizes("digits_moslora") == []
    changes = sizes("llava_llama3_moslora", epochs=3, batch_size=4)
    setting = read_setting("llava_llama3_moslora", options=changes)
    assert (setting.batch_size, setting.accumulation) == (4, 2)
    assert setting.config["train_dataloader"]["sampler"]["per_device_batch_size"] == 8
    assert setting.config["train_cfg"]["max_epochs"] == 3


def test_a_config_that_counts_otherwise(tmp_path: Path) -> None:
    config = tmp_path / "mine.py"
    config.write_text("train_cfg = dict(max_iters=5, max_tokens=99)\ntrain_dataloader = dict(sampler=dict())\n")
    with pytest.raises(ConfigError, match="counts in steps"):
        sizes(str(config), epochs=2)
    with pytest.raises(ConfigError, match="by tokens"):
        sizes(str(config), batch_size=2)


def test_data_of_ones_own_is_prepared_and_counted(tiny_data: Path) -> None:
    source = tiny_data / "train.json"
    changes = own_data("digits_moslora", [str(source)], tiny_data / "images")
    assert changes[1] == f"train_dataloader.dataset.image_folder={tiny_data / 'images'}"
    store = Path(changes[0].partition("=")[2])
    assert len(open_store(store, tiny_data / "images")[1]) == 48
    assert own_data("digits_moslora", [str(source)], tiny_data / "images") == changes  # found again
    assert own_data("digits_moslora", [], None) == []


def test_held_out_records_are_a_store_or_made_one(tiny_data: Path, tmp_path: Path) -> None:
    hook = "moslora_xtuner.training.validation.hook.Validation"
    store = str(tiny_data / "store")
    assert validation_data("digits_moslora", None, None) == []
    assert validation_data("digits_moslora", store, None) == [
        f"default_hooks.validation.type={hook}", f"default_hooks.validation.data={store}",
    ]  # fmt: skip
    _, changed = validation_data("digits_moslora", str(tiny_data / "train.json"), tiny_data / "images")
    made = Path(changed.removeprefix("default_hooks.validation.data="))
    assert len(open_store(made, tiny_data / "images")[1]) == 48
    config = tmp_path / "mine.py"
    config.write_text("train_dataloader = dict(dataset=dict(type='xtuner.dataset.LLaVADataset'))\n")
    with pytest.raises(ConfigError, match="--validation needs a dataset of the type"):
        validation_data(str(config), "a.json", None)


def test_what_makes_no_sense_is_refused(tmp_path: Path, tiny_data: Path) -> None:
    with pytest.raises(UsageError, match="--images goes with --data"):
        own_data("digits_moslora", [], tmp_path)
    config = tmp_path / "mine.py"
    config.write_text("train_dataloader = dict(dataset=dict(type='xtuner.dataset.LLaVADataset'))\n")
    with pytest.raises(ConfigError, match="--data needs a dataset of the type"):
        own_data(str(config), ["a.json"], None)
    (tmp_path / "bad.json").write_text('[{"id": "7", "image": "gone.jpg", "conversations": []}]')
    with pytest.raises(DataError, match="7"):
        own_data("digits_moslora", [str(tmp_path / "bad.json")], tmp_path)
