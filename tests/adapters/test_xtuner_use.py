"""What XTuner does with the adapter: builds it, fills it, and takes its state dict with a filter of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig

pytest.importorskip("xtuner", reason="xtuner is not installed; the adapter does not need it")

from mmengine.config import Config
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
