"""What XTuner does with the adapter: builds it, fills it, and takes its state dict with a filter of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter

pytest.importorskip("xtuner", reason="xtuner is not installed; the adapter does not need it")

from mmengine.config import Config
from xtuner._lite.modelings.internlm2 import InternLM2Config, InternLM2ForCausalLM
from xtuner.model.utils import LoadWoInit, get_peft_model_state_dict
from xtuner.registry import BUILDER


@pytest.mark.parametrize(("settings", "mixers"), [({}, 14), ({"freeze_mixer": True}, 14), ({"mixer": "butterfly"}, 0)])
def test_xtuners_state_dict_has_the_whole_adapter(
    trained: Callable[..., PeftModel],
    logits: Callable[[nn.Module], Tensor],
    settings: dict[str, object],
    mixers: int,
) -> None:
    model = trained(**settings)
    state = get_peft_model_state_dict(model)
    assert len([name for name in state if ".lora_AB.default.weight" in name]) == mixers
    assert len(state) == 28 + mixers
    fresh = trained(seed=8, **settings)
    fresh.load_state_dict(state, strict=False)
    assert torch.equal(logits(fresh), logits(model))


@pytest.mark.parametrize("path", ["moslora_xtuner.MosLoraConfig", "moslora_xtuner.adapters.MosLoraConfig"])
def test_xtuner_builds_it_from_a_dotted_type(tmp_path: Path, path: str) -> None:
    text = f"""
lora = dict(
    type='{path}', r=64, lora_alpha=16, lora_dropout=0.05, bias='none', mixer_init='orthogonal',
    rank_pattern=dict(q_proj=8), target_modules=['q_proj', 'fc1'])
"""
    file = tmp_path / "recipe.py"
    file.write_text(text)
    config = BUILDER.build(Config.fromfile(file).lora)
    assert isinstance(config, MosLoraConfig)
    assert config == MosLoraConfig(
        r=64,
        lora_alpha=16,
        lora_dropout=0.05,
        mixer_init="orthogonal",
        rank_pattern={"q_proj": 8},
        target_modules=["q_proj", "fc1"],
    )
    config.save_pretrained(str(tmp_path))
    assert MosLoraConfig.from_pretrained(str(tmp_path)) == config


def test_xtuner_switching_init_functions_off_does_not_reach_the_mixer(
    llama: Callable[..., nn.Module],
) -> None:
    base = llama()
    torch.manual_seed(3)
    with LoadWoInit():
        model = get_peft_model(base, MosLoraConfig(r=8, target_modules=["q_proj", "v_proj"], mixer_init="orthogonal"))
    drawn = [p.detach() for n, p in model.named_parameters() if "lora_AB" in n]
    assert len(drawn) == 4
    for m in drawn:
        assert float((m.T @ m - torch.eye(8)).abs().max()) < 1e-6


def internlm2() -> nn.Module:
    """A two-layer InternLM2 with grouped-query attention: q, k and v are one layer, wqkv."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    return InternLM2ForCausalLM(
        InternLM2Config(num_attention_heads=4, num_key_value_heads=2, bias=False, **sizes)
    ).eval()


@pytest.mark.filterwarnings("ignore:.*GenerationMixin")
def test_internlm2s_fused_layers_are_mixed_merged_saved_and_folded(tmp_path: Path) -> None:
    targets = ["wqkv", "wo", "w1", "w2", "w3"]
    model = get_peft_model(internlm2(), MosLoraConfig(r=4, lora_alpha=8, target_modules=targets)).eval()
    mixers = [name for name, _ in model.named_parameters() if "lora_AB" in name]
    assert len(mixers) == 10
    assert not any("output" in name for name in mixers)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.4 / parameter.shape[-1] ** 0.5)
    ids = torch.tensor([[1, 5, 9, 2, 7, 3]])

    def logits(of: nn.Module) -> Tensor:
        with torch.no_grad():
            return of.double()(input_ids=ids).logits

    with model.disable_adapter():
        base = logits(model)
    wanted = logits(model)
    assert float((wanted - base).abs().max()) > 0.05
    model.float().save_pretrained(str(tmp_path / "adapter"))
    again = PeftModel.from_pretrained(internlm2(), str(tmp_path / "adapter"))
    assert float((logits(again) - wanted).abs().max()) < 1e-9
    folded = PeftModel.from_pretrained(internlm2(), str(fold_adapter(tmp_path / "adapter", tmp_path / "folded")))
    assert float((logits(folded) - wanted).abs().max() / wanted.abs().max()) < 1e-6
    assert float((logits(again.merge_and_unload()) - wanted).abs().max()) < 1e-9
