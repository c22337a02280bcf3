"""Keys that nothing reads are named, with the nearest that something does; shipped recipes have none."""

from __future__ import annotations

from typing import Any

import pytest
from mmengine.config import Config
from places import CONFIGS

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.plan.keys import (
    NEEDED,
    NEEDED_WITH_PICTURES,
    changed_variables,
    missing_keys,
    unknown_keys,
)  # fmt: skip

RECIPES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")

XTUNERS_OWN = {
    "llava_llama3_8b_instruct_full_clip_vit_large_p14_336_lora_e1_gpu8_finetune": ["image_tokens"],
    "llama3_8b_instruct_qlora_alpaca_e3": ["param_scheduler is a list"],
}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = Config.fromfile(CONFIGS / f"{name}.py", import_custom_modules=False).to_dict()
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_have_none(name: str) -> None:
    assert unknown_keys(load(name)) == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("model.frezze_llm", "MosLoraLLaVA has no 'frezze_llm'; did you mean freeze_llm?"),
        ("train_dataloader.bach_size", "a data loader has no 'bach_size'; did you mean batch_size?"),
        ("train_dataloader.dataset.stor", "TokenStore has no 'stor'; did you mean store?"),
        ("train_dataloader.collate_fn.image_token", "collate has no 'image_token'; did you mean image_tokens?"),
        ("optim_wrapper.clip_grads", "OptimWrapper has no 'clip_grads'; did you mean clip_grad?"),
        ("optim_wrapper.optimizer.learning_rate", "AdamW has no 'learning_rate'"),
        ("param_scheduler.warmup", "WarmUpCosineLR has no 'warmup'; did you mean warmup_ratio?"),
        ("train_cfg.loss_means", "TrainLoop has no 'loss_means'; did you mean loss_mean?"),
        ("default_hooks.logger.intervl", "LoggerHook has no 'intervl'; did you mean interval?"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_named(where: str, said: str) -> None:
    config = load("llava_llama3_moslora")
    *path, key = where.split(".")
    inner = config
    for step in path:
        inner = inner[step]
    inner[key] = 1
    assert unknown_keys(config) == [f"{where}: {said}"]


def test_a_wrong_key_at_the_top() -> None:
    config = load("llava_llama3_moslora")
    config["optim_wraper"] = {}
    assert unknown_keys(config) == ["optim_wraper: nothing reads it; did you mean optim_wrapper?"]


def test_options_that_come_too_late() -> None:
    assert changed_variables(["train_dataloader.batch_size=4", "model.visual_select_layer=-1"]) == []
    (problem,) = changed_variables(["accumulation=4"])
    assert problem.startswith("--cfg-options accumulation: nothing reads it")


def test_a_type_that_does_not_exist() -> None:
    config = load("digits_lora")
    config["train_cfg"]["type"] = "moslora_xtuner.training.loop.Loop"
    with pytest.raises(ConfigError, match=r"train_cfg\.type is 'moslora_xtuner\.training\.loop\.Loop'"):
        unknown_keys(config)


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_lack_nothing(name: str) -> None:
    assert missing_keys(load(name)) == []


@pytest.mark.parametrize("name", sorted(XTUNERS_OWN))
def test_a_config_of_xtuners_own_is_told_what_it_lacks(name: str) -> None:
    from xtuner.configs import cfgs_name_path

    config = Config.fromfile(cfgs_name_path[name], import_custom_modules=False).to_dict()
    problems = missing_keys(config)
    assert any("SaveAdapters: a training would end without its adapters" in problem for problem in problems)
    assert any("moslora_xtuner.plugin" in problem for problem in problems)
    for lacking in XTUNERS_OWN[name]:
        assert any(lacking in problem for problem in problems)


@pytest.mark.parametrize("key", [*NEEDED, *NEEDED_WITH_PICTURES])
def test_a_copy_that_lost_a_key_is_told_which(key: str) -> None:
    config = load("llava_llama3_moslora")
    *path, last = key.split(".")
    inner = config
    for step in path:
        inner = inner[step]
    del inner[last]
    (problem,) = missing_keys(config)
    assert problem.startswith(f"it lacks {key}")
    assert problem.endswith(": `moslora config NAME` prints a recipe that has them")


def test_what_is_no_config_of_a_training_at_all() -> None:
    for config in ({}, {"model": None}, {"model": []}, {"model": {"type": 3}, "custom_hooks": [None, {}]}):
        assert missing_keys(config)[0].startswith("it lacks ")
