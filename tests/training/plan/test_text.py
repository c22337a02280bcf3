"""The plan of a model of text alone: no picture's steps, every method's weights, what cannot be trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import instructions
import pytest

from moslora_xtuner.training.plan.make import make_plan
from moslora_xtuner.training.plan.memory import Batch, Precision, Sharding, estimate
from moslora_xtuner.training.plan.outcome import Plan, text
from moslora_xtuner.training.plan.setting import read_setting
from moslora_xtuner.training.plan.shapes import NOTHING, part


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return instructions.environment(tmp_path_factory.mktemp("text"), 96)


def plan(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str = "commonsense_lora", *options: str
) -> Plan:
    for variable, value in places.items():
        monkeypatch.setenv(variable, value)
    return make_plan(read_setting(name, processes=2, options=("param_scheduler.warmup_steps=2", *options)))


@pytest.mark.parametrize("name", ["lora", "moslora", "frozen_mixer", "loha", "lokr", "adalora", "dora_r32"])
def test_it_is_ready(name: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(places, monkeypatch, f"commonsense_{name}")
    assert found.problems == []
    titles = [step.title for step in found.steps]
    assert "visual encoder" not in titles
    assert "projector" not in titles
    said = text(found)
    assert "96 records, 0 with a picture" in said
    # 96 records, 4 x 4 on each of 2 processes, 3 epochs.
    assert "9 steps, 2 of them warm-up" in said
    assert found.memory is not None
    assert (found.memory.visual_block, found.projector) == (0, 0)
    assert (found.memory.deltas > 0) is (name in ("loha", "lokr", "dora_r32"))


def test_a_run_shorter_than_its_warm_up_is_told(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(places, monkeypatch, "commonsense_lora", "param_scheduler.warmup_steps=100")
    assert any("warm-up alone takes 100" in problem and "warmup_steps" in problem for problem in found.problems)


def test_a_store_with_another_loss_is_told(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(places, monkeypatch, "commonsense_lora", "train_dataloader.dataset.loss=answer")
    assert any("has its loss on prompts and answers" in problem for problem in found.problems)


def test_loha_on_4_bits_is_told(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    quantised = "model.llm.quantization_config.load_in_4bit=True"
    found = plan(places, monkeypatch, "commonsense_loha", quantised)
    assert any("LoHaConfig cannot sit on layers of 4 bits" in problem for problem in found.problems)


def test_whole_matrices_that_a_method_makes_are_counted() -> None:
    """LoHa of one block: each layer's delta is kept, and four of the largest are made; LoRA makes none."""
    import torch
    from peft import LoHaConfig, LoraConfig
    from transformers import LlamaConfig, LlamaForCausalLM

    shape: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    }  # fmt: skip

    def deltas(config: Any, **ways: Any) -> float:
        from moslora_xtuner.training.plan.memory import Ways

        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**shape))
        batch, precision = Batch(2, 16, 0, 0, 0), Precision(2, 1, False)
        return estimate(part(model, config), NOTHING, 0, batch, precision, Sharding(2, 1), Ways(**ways)).deltas

    targets = ["q_proj", "down_proj"]
    one = 32 * 32 + 48 * 32
    assert deltas(LoraConfig(r=4, target_modules=targets)) == 0
    assert deltas(LoHaConfig(r=4, target_modules=targets)) == 2 * (one + 4 * 48 * 32)
    assert deltas(LoHaConfig(r=4, target_modules=targets), checkpointing=False) == 2 * (3 * one + 4 * 48 * 32)


def test_pictures_are_told(places: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import standins

    from moslora_xtuner.data.prepare import prepare

    mix = standins.make_mix(tmp_path / "data", 16)
    prepare(mix, tmp_path / "data" / "images", Path(places["COMMONSENSE_LLM"]), tmp_path / "store", template="alpaca")
    chosen = (
        f"train_dataloader.dataset.store={tmp_path / 'store'}",
        f"train_dataloader.dataset.image_folder={tmp_path / 'data' / 'images'}",
    )
    found = plan(places, monkeypatch, "commonsense_lora", *chosen)
    assert any("records have pictures, which a text model cannot see" in problem for problem in found.problems)
