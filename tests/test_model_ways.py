"""The options of MosLoraLLaVA that make a step cheaper: each is the same training, and does what it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import nn
from transformers import AutoModelForCausalLM, CLIPVisionModel

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from moslora_xtuner.errors import ConfigError
from moslora_xtuner.model import MosLoraLLaVA

WAYS: dict[str, dict[str, Any]] = {
    "chunked loss": {"chunked_loss": True},
    "no mask": {"skip_padding_mask": True},
    "fused": {"fused_adapters": True},
    "lean MLP": {"lean_mlp": True},
    "one block": {"checkpointed_blocks": 1},
    "no block": {"checkpointed_blocks": 0},
    "as planned": {"checkpointed_blocks": "plan"},
    "all": {
        "chunked_loss": True, "skip_padding_mask": True, "fused_adapters": True, "lean_mlp": True,
        "checkpointed_blocks": 1,
    },
}  # fmt: skip
ADAPTERS: dict[str, Any] = {
    "LoRA": LoraConfig,
    "MoSLoRA": MosLoraConfig,
    "TS-Mixing": lambda **given: MosLoraConfig(mixer="butterfly", **given),
}


def build(base: Path, adapter: str | None, **options: Any) -> Any:
    torch.manual_seed(1)
    config = {"r": 4, "lora_dropout": 0.1, "init_lora_weights": False}
    tuned = {} if adapter is None else {
        "llm_lora": ADAPTERS[adapter](target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], **config),
        "visual_encoder_lora": ADAPTERS[adapter](target_modules=["q_proj", "fc1"], **config),
    }  # fmt: skip
    return MosLoraLLaVA(
        llm=AutoModelForCausalLM.from_pretrained(base / "llm"),
        visual_encoder=CLIPVisionModel.from_pretrained(base / "visual_encoder"),
        projector_weights=str(base / "projector"),
        freeze_llm=True,
        freeze_visual_encoder=True,
        **{"use_activation_checkpointing": True, **tuned, **options},
    ).train()


def batch(pictures: bool = True) -> dict[str, Any]:
    """Three records, the last two padded; a picture's 36 places in each, or none at all."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 200, (3, 60), generator=draw)
    lengths = torch.tensor([60, 55, 41])
    mask = torch.arange(60)[None] < lengths[:, None]
    labels = torch.where(mask & (torch.arange(60) > 44), ids, IGNORE_INDEX)
    labels[2, 38:41] = ids[2, 38:41]
    data = {"input_ids": ids, "labels": labels, "attention_mask": mask}
    if pictures:
        ids[:, 1:37] = IMAGE_TOKEN_INDEX
        data["pixel_values"] = torch.randn(3, 3, 48, 48, generator=draw)
    return data


def step(model: Any, data: dict[str, Any]) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(7)  # the same dropout
    loss = model(dict(data), mode="loss")["loss"]
    loss.backward()
    return float(loss.detach()), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("way", "adapter", "pictures"),
    [*((way, "MoSLoRA", True) for way in WAYS), *(("all", adapter, True) for adapter in ("LoRA", "TS-Mixing", None)),
     ("all", "MoSLoRA", False)],
)  # fmt: skip
def test_each_way_is_the_same_training(way: str, adapter: str | None, pictures: bool, tiny_base: Path) -> None:
    wanted, gradients = step(build(tiny_base, adapter), batch(pictures))
    model = build(tiny_base, adapter, **WAYS[way])
    loss, found = step(model, batch(pictures))
    assert loss == pytest.approx(wanted, rel=1e-6)
    assert found.keys() == gradients.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, right in gradients.items():
        torch.testing.assert_close(found[name], right, rtol=1e-4, atol=1e-6 * max(1.0, float(right.abs().max())))


def test_stage_1_has_no_graph_of_the_visual_encoder(tiny_base: Path) -> None:
    model = build(tiny_base, None)
    states: list[bool] = []
    encoder: nn.Module = model.visual_encoder
    encoder.register_forward_hook(lambda module, given, made: states.append(made.hidden_states[-2].requires_grad))
    loss, gradients = step(model, batch())
    assert states == [False]
    assert {name.split(".")[0] for name in gradients} == {"projector"}
    stock = build(tiny_base, None)
    stock.visual_encoder.enable_input_require_grads()
    stock.visual_encoder.requires_grad_(True)  # as XTuner, which goes through it backward
    wanted, through = step(stock, batch())
    assert loss == wanted
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, through[name], rtol=0, atol=0)


def test_text_embeddings_that_are_frozen_get_no_gradient(tiny_base: Path) -> None:
    model = build(tiny_base, "MoSLoRA")
    made: list[torch.Tensor] = []
    model.llm.get_input_embeddings().register_forward_hook(lambda module, given, embeds: made.append(embeds))
    step(model, batch())
    assert [embeds.grad for embeds in made] == [None]


def test_embeddings_that_are_trained_get_theirs(tiny_base: Path) -> None:
    model = build(tiny_base, "LoRA")
    model.llm.get_input_embeddings().weight.requires_grad_(True)
    gradients = step(model, batch())[1]
    assert any("embed_tokens" in name and gradient.abs().sum() > 0 for name, gradient in gradients.items())


def test_blocks_without_checkpointing_are_refused(tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match="checkpointed_blocks needs use_activation_checkpointing"):
        build(tiny_base, "LoRA", use_activation_checkpointing=False, checkpointed_blocks=1)
