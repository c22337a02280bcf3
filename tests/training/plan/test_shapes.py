"""Trained weights of the recipes at the real sizes, on the meta device, against the counts of the paper's shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.utils.misc import get_object_from_string
from places import CONFIGS
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM
from xtuner._lite.modelings.internlm2 import InternLM2Config, InternLM2ForCausalLM

from moslora_xtuner.training.plan.shapes import part
from moslora_xtuner.training.targets import useful_layers

SIZES = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
LLAMA3 = (167_772_160, 917_504)
INTERNLM2 = (1_207_959_552, 41_943_040)
VIT = (28_311_552, 589_824)


def adapters(recipe: str, name: str) -> Any:
    settings = Config.fromfile(CONFIGS / f"{recipe}.py", import_custom_modules=False).to_dict()["model"][name]
    kind: Any = get_object_from_string(settings.pop("type"))
    return kind(**settings)


@pytest.mark.parametrize(
    ("recipe", "lora", "mixers", "mixed"),
    [
        ("llava_llama3_lora", *LLAMA3, False),
        ("llava_llama3_moslora", *LLAMA3, True),
        ("llava_llama3_moslora_kaiming", *LLAMA3, True),
        ("llava_llama3_ts_mixing", *LLAMA3, False),
        ("llava_llama3_qmoslora", *LLAMA3, True),
        ("llava_internlm2_qlora", *INTERNLM2, False),
        ("llava_internlm2_qmoslora", *INTERNLM2, True),
        ("llava_internlm2_qmoslora_kaiming", *INTERNLM2, True),
    ],
)
def test_real_sizes(recipe: str, lora: int, mixers: int, mixed: bool) -> None:
    with torch.device("meta"):
        llm = (
            LlamaForCausalLM(LlamaConfig(vocab_size=128256, num_key_value_heads=8, **SIZES))
            if "llama3" in recipe
            else InternLM2ForCausalLM(InternLM2Config(vocab_size=92544, num_key_value_heads=8, bias=False, **SIZES))
        )
        vit = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
                image_size=336, patch_size=14,
            )
        )  # fmt: skip
    found = part(llm, adapters(recipe, "llm_lora"))
    assert found.trainable == lora + mixed * mixers
    assert all(layer.mixed == (mixed or "ts_mixing" in recipe) for layer in found.adapted)
    config = adapters(recipe, "visual_encoder_lora")
    config.layers_to_transform = useful_layers(-2, 24)
    # The paper's count has all 24 layers; the last one is behind the features and has none here.
    assert part(vit, config).trainable == (VIT[0] + mixed * VIT[1]) * 23 // 24


def test_sizes_of_the_models_are_read() -> None:
    with torch.device("meta"):
        found = part(LlamaForCausalLM(LlamaConfig(vocab_size=128256, num_key_value_heads=8, **SIZES)))
    assert (found.hidden, found.layers, found.vocabulary, found.trainable) == (4096, 32, 128256, 0)
    assert found.parameters == 8_030_261_248  # as the model card counts
    assert found.linear == found.parameters - 2 * 128256 * 4096 - (2 * 32 + 1) * 4096
