"""The marked lines: what PEFT would write into the product, and so without effect, is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, optimizers, replace_lora_weights_loftq
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import hotswap
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.adapters.registration import register
from moslora_xtuner.errors import AdapterError

Llama = Callable[..., nn.Module]
Logits = Callable[[nn.Module], Tensor]


def test_hot_swapping_into_a_mixed_model_is_refused(
    trained: Callable[..., PeftModel], logits: Logits, tmp_path: Path
) -> None:
    model = trained()
    trained(seed=4).save_pretrained(str(tmp_path), save_embedding_layers=False)
    wanted = logits(model)
    with pytest.raises(AdapterError, match="hot-swapping"):
        hotswap.hotswap_adapter(model, str(tmp_path), adapter_name="default")
    assert torch.equal(logits(model), wanted)


@pytest.mark.skipif(not hasattr(hotswap, "prepare_model_for_compiled_hotswap"), reason="peft 0.14 cannot prepare it")
def test_preparing_a_mixed_model_for_hot_swapping_is_refused(trained: Callable[..., PeftModel]) -> None:
    with pytest.raises(AdapterError, match="hot-swap preparation"):
        hotswap.prepare_model_for_compiled_hotswap(trained(), target_rank=8)


@pytest.mark.skipif(not hasattr(optimizers, "create_lorafa_optimizer"), reason="peft 0.14 has no LoRA-FA")
@pytest.mark.parametrize("mixer", ["learned", "butterfly"])
def test_lora_fa_is_refused_with_a_mixer_and_stays_without(
    trained: Callable[..., PeftModel], llama: Llama, mixer: str
) -> None:
    with pytest.raises(AdapterError, match="LoRA-FA"):
        optimizers.create_lorafa_optimizer(trained(mixer=mixer), r=4, lora_alpha=8, lr=1e-3)
    plain = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"]))
    made = optimizers.create_lorafa_optimizer(plain, r=4, lora_alpha=8, lr=1e-3)
    assert len([name for name in made.param_groups[0]["names"] if "lora_" in name]) == 4


def test_loftq_replacement_is_refused(trained: Callable[..., PeftModel], tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="loftq"):
        replace_lora_weights_loftq(trained(), model_path=str(tmp_path / "model.safetensors"))


def test_hot_swapping_a_plain_lora_still_works(llama: Llama, logits: Logits, tmp_path: Path) -> None:
    def plain(seed: int) -> PeftModel:
        model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_()
        return model.eval()

    first, second = plain(1), plain(2)
    second.save_pretrained(str(tmp_path), save_embedding_layers=False)
    assert not torch.equal(logits(first), logits(second))
    hotswap.hotswap_adapter(first, str(tmp_path), adapter_name="default", torch_device="cpu")
    wanted = PeftModel.from_pretrained(llama(), str(tmp_path))
    assert torch.equal(logits(first), logits(wanted))


def test_registering_again_changes_nothing(llama: Llama) -> None:
    before = dict(PEFT_TYPE_TO_TUNER_MAPPING)
    register()
    register()
    assert before == PEFT_TYPE_TO_TUNER_MAPPING
    model = get_peft_model(llama(), MosLoraConfig(r=2, target_modules=["q_proj"]))
    assert model.peft_config["default"].mixer == "learned"
