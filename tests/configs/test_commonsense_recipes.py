"""The recipes of the paper's section 4.1: its values, Table 4's counts, and that they differ in the adapter alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from peft import get_peft_model
from places import CONFIGS
from transformers import LlamaConfig, LlamaForCausalLM
from xtuner.registry import BUILDER

LLAMA3_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
# Of the shapes: r (4096 + out) of q, k, v and up, r (14336 + 4096) of down, in 32 layers; and what Table 4 prints.
LORA, MIXERS, NORMS = 28_311_552, 40_960, 786_432
COUNTS = {
    "commonsense_lora": (LORA, "28.3M"),
    "commonsense_lora_r32": (2 * LORA, None),
    "commonsense_ts_mixing": (LORA, None),
    "commonsense_ts_mixing_r32": (2 * LORA, None),
    "commonsense_moslora": (LORA + MIXERS, "28.4M"),
    "commonsense_moslora_orthogonal": (LORA + MIXERS, None),
    "commonsense_moslora_identity": (LORA + MIXERS, None),
    "commonsense_moslora_normal": (LORA + MIXERS, None),
    "commonsense_moslora_zero": (LORA + MIXERS, None),
    "commonsense_frozen_mixer": (LORA, None),
    "commonsense_flora": (LORA + MIXERS, "28.4M"),
    "commonsense_lokr": (901_120, "0.9M"),
    "commonsense_loha": (LORA, "28.3M"),
    "commonsense_adalora": (LORA + 16 * 5 * 32, "28.3M"),
    "commonsense_dora": (LORA + NORMS, "29.1M"),
    "commonsense_dora_r32": (2 * LORA + NORMS, "57.4M"),
}
RECIPES = sorted(path.stem for path in CONFIGS.glob("commonsense_*.py"))


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = Config.fromfile(CONFIGS / f"{name}.py").to_dict()
    return found


def test_every_recipe_has_its_count() -> None:
    assert sorted(COUNTS) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_the_trained_weights_of_llama3_8b_are_those_of_table_4(name: str) -> None:
    with torch.device("meta"):
        model = get_peft_model(
            LlamaForCausalLM(LlamaConfig(**LLAMA3_8B)), BUILDER.build(load(name)["model"]["llm_lora"])
        )
    assert all(p.is_meta for p in model.parameters())
    wanted, printed = COUNTS[name]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == wanted
    assert printed in (None, f"{wanted / 1e6:.1f}M")
    assert f"{wanted:,} weights" in (CONFIGS / f"{name}.py").read_text(encoding="utf-8")


def test_rank_16_of_table_7_would_not_give_what_table_4_prints() -> None:
    """Why LoHa and LoKr have rank 8."""
    for name, wanted in (("commonsense_loha", 56_623_104), ("commonsense_lokr", 1_081_344)):
        config = {**load(name)["model"]["llm_lora"], "r": 16}
        with torch.device("meta"):
            model = get_peft_model(LlamaForCausalLM(LlamaConfig(**LLAMA3_8B)), BUILDER.build(config))
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_differ_in_the_adapter_alone(name: str) -> None:
    base, other = load("commonsense_lora"), load(name)
    base["model"].pop("llm_lora")
    tuned = other["model"].pop("llm_lora")
    if "dora" in name:  # Table 7
        assert other["optim_wrapper"]["optimizer"].pop("lr") == 1e-4
        assert base["optim_wrapper"]["optimizer"].pop("lr") == 3e-4
    assert other == base
    assert set(tuned["target_modules"]) == {"q_proj", "k_proj", "v_proj", "up_proj", "down_proj"}


def test_the_values_of_table_7() -> None:
    config = load("commonsense_moslora")
    adapter = config["model"]["llm_lora"]
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (16, 32, 0.05)
    assert config["train_dataloader"]["batch_size"] * config["optim_wrapper"]["accumulative_counts"] == 16
    assert config["train_cfg"]["max_epochs"] == 3
    assert config["optim_wrapper"]["optimizer"]["lr"] == 3e-4
    assert config["param_scheduler"]["warmup_steps"] == 100
    assert config["train_dataloader"]["sampler"] == {"type": "mmengine.dataset.DefaultSampler", "shuffle": True}
    assert load("commonsense_dora_r32")["model"]["llm_lora"]["lora_alpha"] == 64
    for name in RECIPES:  # the scale of Table 7
        other = load(name)["model"]["llm_lora"]
        if "lora_alpha" in other:
            assert other["lora_alpha"] == 2 * other.get("init_r", other.get("r"))
