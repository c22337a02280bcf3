"""Which records are held out, and that they are read as the training's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from moslora_xtuner.errors import ConfigError, DataError
from moslora_xtuner.recipes.catalogue import recipes, resolve_config
from moslora_xtuner.training.checkpoints.save import Checkpoints
from moslora_xtuner.training.held_out import (
    CHECKPOINTS,
    HOOK,
    dataset_settings,
    hook_of,
    interval_of,
    is_store,
    require_same_loss,
)
from moslora_xtuner.training.validation.hook import Validation


def loaded(name: str, **options: Any) -> Config:
    found = Config.fromfile(resolve_config(name), import_custom_modules=False)
    found.merge_from_dict(options)
    return found


def test_every_recipe_has_it_and_none_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMMONSENSE_VALIDATION", raising=False)
    assert f"{Validation.__module__}.{Validation.__qualname__}" == HOOK
    for recipe in recipes():
        config = loaded(recipe.name)
        assert hook_of(config) is None
        hook = config.default_hooks.validation
        assert hook.type == HOOK
        assert hook.keep == ("best" if recipe.name.startswith("commonsense") else "last")
        found = hook_of(loaded(recipe.name, **{"default_hooks.validation.data": "held_out"}))
        assert found is not None
        assert found["data"] == "held_out"
        assert not Validation(**{key: value for key, value in hook.items() if key != "type"}).on


def test_the_commonsense_recipes_read_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMONSENSE_VALIDATION", "/data/held_out")
    found = hook_of(loaded("commonsense_dora"))
    assert found is not None
    assert (found["data"], found["keep"]) == ("/data/held_out", "best")
    assert interval_of(loaded("commonsense_dora"), found) == 800  # the checkpoints': 200 steps of 4 micro-batches


def test_a_hook_among_the_custom_ones_and_an_interval_of_its_own() -> None:
    config = {"custom_hooks": [{"type": "a.B"}, {"type": HOOK, "data": "x", "interval": 7}], "default_hooks": {}}
    found = hook_of(config)
    assert found is not None
    assert interval_of(config, found) == 7
    assert interval_of({}, {}) == -1
    by_mmengine = {"default_hooks": {"checkpoint": {"type": "mmengine.hooks.CheckpointHook", "interval": 1}}}
    assert interval_of(by_mmengine, {}) == -1  # epochs
    assert f"{Checkpoints.__module__}.{Checkpoints.__qualname__}" == CHECKPOINTS


def test_the_same_settings_with_other_records(tmp_path: Path) -> None:
    train = {"type": "moslora_xtuner.data.dataset.TokenStore", "store": "a", "tokenizer": {"x": 1}, "template": "t",
             "image_folder": "p", "loss": "all"}  # fmt: skip
    rest = {key: value for key, value in train.items() if key != "store"}
    assert dataset_settings(train, "b") == {**rest, "store": "b"}
    source = tmp_path / "held_out.json"
    source.write_text("[]")
    assert dataset_settings(train, str(source)) == {**rest, "data_path": str(source)}
    assert dataset_settings({**rest, "data_path": "c.json", "max_length": 9}, "b") == {
        **rest, "max_length": 9, "store": "b",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="TokenStore"):
        dataset_settings({"type": "xtuner.dataset.LLaVADataset"}, "b")


def test_a_store_is_told_from_what_is_to_be_prepared(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert not is_store(str(tmp_path / "store"))  # a folder of `datasets`, as far as its name goes
    (tmp_path / "store" / "store.json").write_text("{}")
    assert is_store(str(tmp_path / "store"))
    assert is_store(str(tmp_path / "gone"))  # opening it says that it is not there, and how one is made
    assert not is_store(str(tmp_path / "gone.json"))
    assert not is_store(str(tmp_path / "gone.jsonl"))


def test_the_loss_stands_on_the_same_places() -> None:
    require_same_loss({}, {"loss": "answer"})  # of stores from before there was a choice
    require_same_loss({"loss": "all"}, {"loss": "all"})
    with pytest.raises(DataError, match=r"'all'.*'answer'.*--loss all"):
        require_same_loss({"loss": "all"}, {})
