"""Every shipped config parses, and a pair to be compared differs in the adapter alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from places import CONFIGS

RECIPES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = Config.fromfile(CONFIGS / f"{name}.py").to_dict()
    return found


def types(value: Any) -> Iterator[str]:
    """Every `type` in a config."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"]
        for inner in value.values():
            yield from types(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from types(inner)


def test_there_are_recipes() -> None:
    assert {"digits_lora", "digits_moslora"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_parses_imports_the_plugin_and_names_things_that_exist(name: str) -> None:
    from mmengine.utils.misc import get_object_from_string

    config = load(name)
    assert "moslora_xtuner.plugin" in config["custom_imports"]["imports"]
    assert config["custom_imports"]["allow_failed_imports"] is False
    found = set(types(config))
    assert found
    for dotted in found:
        assert get_object_from_string(dotted) is not None, dotted


@pytest.mark.parametrize("name", RECIPES)
def test_adapters_are_built_as_written(name: str) -> None:
    from xtuner.registry import BUILDER

    model = load(name)["model"]
    for part in {"llm_lora", "visual_encoder_lora"} & model.keys():
        built = BUILDER.build(dict(model[part]))
        for key, value in model[part].items():
            if key != "type":
                found = getattr(built, key)
                assert (set(found) if key == "target_modules" else found) == (
                    set(value) if key == "target_modules" else value
                )


@pytest.mark.parametrize("name", RECIPES)
def test_no_machine_path_is_written_in(name: str) -> None:
    text = (CONFIGS / f"{name}.py").read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert "/tmp/" not in text


def test_digits_lora_and_moslora_differ_in_the_adapter_alone() -> None:
    lora, moslora = load("digits_lora"), load("digits_moslora")
    parts = ("llm_lora", "visual_encoder_lora")
    adapters = [{part: config["model"].pop(part) for part in parts} for config in (lora, moslora)]
    assert lora == moslora
    for part in parts:
        plain, mixed = (side[part] for side in adapters)
        changed = {key for key in {*plain, *mixed} if plain.get(key) != mixed.get(key)}
        assert changed == {"type", "mixer", "mixer_init"}
        assert plain["type"] == "peft.LoraConfig"
        assert mixed["type"] == "moslora_xtuner.adapters.MosLoraConfig"


def test_the_environment_moves_data_and_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_DATA", "elsewhere/data")
    monkeypatch.setenv("DIGITS_BASE", "elsewhere/base")
    config = load("digits_moslora")
    assert config["train_dataloader"]["dataset"]["store"] == "elsewhere/data/store"
    assert config["train_dataloader"]["dataset"]["image_folder"] == "elsewhere/data/images"
    assert config["model"]["llm"]["pretrained_model_name_or_path"] == "elsewhere/base/llm"
    assert config["model"]["projector_weights"] == "elsewhere/base/projector"


@pytest.mark.parametrize("path", sorted((CONFIGS / "deepspeed").glob("*.json")), ids=lambda path: path.stem)
def test_deepspeed_files_are_json(path: Path) -> None:
    assert json.loads(path.read_text())["zero_optimization"]["stage"] in (2, 3)
