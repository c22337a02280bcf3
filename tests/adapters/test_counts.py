"""Trainable parameters at the real sizes, from models on the meta device, against counts from the shapes."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from moslora_xtuner.adapters import MosLoraConfig

LLAMA3_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
ALL_LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]


class InternLM2Block(nn.Module):
    """The five linear layers of one InternLM2-7B block: fused q, k, v; two up; one down; output."""

    def __init__(self) -> None:
        super().__init__()
        self.wqkv = nn.Linear(4096, 6144, bias=False)
        self.wo = nn.Linear(4096, 4096, bias=False)
        self.w1 = nn.Linear(4096, 14336, bias=False)
        self.w3 = nn.Linear(4096, 14336, bias=False)
        self.w2 = nn.Linear(14336, 4096, bias=False)


def llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**LLAMA3_8B))


def clip() -> nn.Module:
    return CLIPVisionModel(CLIPVisionConfig(**CLIP_L_336))


def internlm2() -> nn.Module:
    return nn.Sequential(*(InternLM2Block() for _ in range(32)))


@pytest.mark.parametrize(
    ("build", "targets", "r", "lora", "mixers"),
    [
        (llama, ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"], 16, 28_311_552, 40_960),
        (llama, ALL_LLAMA, 64, 167_772_160, 917_504),
        (clip, ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], 64, 28_311_552, 589_824),
        (internlm2, ["wqkv", "wo", "w1", "w2", "w3"], 512, 1_207_959_552, 41_943_040),
    ],
    ids=["llama3-8b r16", "llama3-8b r64", "clip-l-336 r64", "internlm2-7b r512"],
)
def test_trainable_parameters(build: object, targets: list[str], r: int, lora: int, mixers: int) -> None:
    counted = {}
    for name, config in {
        "lora": LoraConfig(r=r, target_modules=targets),
        "learned": MosLoraConfig(r=r, target_modules=targets),
        "frozen": MosLoraConfig(r=r, target_modules=targets, freeze_mixer=True),
        "butterfly": MosLoraConfig(r=r, target_modules=targets, mixer="butterfly"),
        "identity": MosLoraConfig(r=r, target_modules=targets, mixer="identity"),
    }.items():
        with torch.device("meta"):
            model = get_peft_model(build(), config)  # type: ignore[operator]
        assert all(p.is_meta for p in model.parameters())
        counted[name] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted == {
        "lora": lora,
        "learned": lora + mixers,
        "frozen": lora,
        "butterfly": lora,
        "identity": lora,
    }
