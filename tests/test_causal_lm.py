"""MosLoraCausalLM computes what transformers computes, keeps what was trained, and refuses what it cannot train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from small_llama import build_llama
from text_models import KINDS, TARGETS, batch, build

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.causal_lm import MosLoraCausalLM
from moslora_xtuner.data.dataset import collate
from moslora_xtuner.errors import ConfigError, DataError
from moslora_xtuner.training.loop import LOSS_DIVISOR


@torch.no_grad()
def expected(model: MosLoraCausalLM, data: dict[str, Any]) -> float:
    """The mean cross entropy in float64 from the logits, place by place."""
    logits = model.llm(input_ids=data["input_ids"], attention_mask=data["attention_mask"]).logits.double()
    losses = []
    for row, labels in enumerate(data["labels"]):
        for place in range(1, len(labels)):
            if labels[place] != -100:
                losses.append(-logits[row, place - 1].log_softmax(-1)[labels[place]])
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"adalora"}))
@pytest.mark.parametrize("options", [{}, {"chunked_loss": True, "skip_padding_mask": True, "fused_adapters": True}])
def test_the_loss_is_the_mean_over_the_labelled_places(kind: str, options: dict[str, bool]) -> None:
    model, data = build(kind, **options).eval(), batch()
    assert float(model(data)["loss"]) == pytest.approx(expected(model, data), rel=1e-5)


def test_every_way_has_the_same_gradients() -> None:
    found = []
    for options in ({}, {"chunked_loss": True, "skip_padding_mask": True}, {"use_activation_checkpointing": True}):
        model = build(**options).train()
        model(batch())["loss"].backward()
        found.append({n: w.grad for n, w in model.named_parameters() if w.requires_grad})
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, gradient in found[0].items():
            torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-7)


def test_the_regulariser_of_adalora_is_in_the_loss() -> None:
    """0.5 times the mean over A and B of |P P^T - I| (Zhang et al. 2023, equation 4), also with the loss in chunks."""
    model, data = build("adalora", chunked_loss=True).eval(), batch()
    factors = [(n, w.double()) for n, w in model.named_parameters() if "lora_A" in n or "lora_B" in n]
    assert len(factors) == 12
    grams = [w @ w.T if "lora_A" in n else w.T @ w for n, w in factors]
    regulariser = sum(float((gram - torch.eye(len(gram)).double()).norm()) for gram in grams) / len(grams)
    assert float(model(data)["loss"]) == pytest.approx(expected(model, data) + 0.5 * regulariser, rel=1e-5)


def test_a_share_of_a_global_batch() -> None:
    model, data = build().eval(), batch()
    whole = float(model(data)["loss"])
    data[LOSS_DIVISOR] = 20  # of 8 supervised tokens
    assert float(model(data)["loss"]) == pytest.approx(whole * 8 / 20)


def test_internlm2(tmp_path: Path) -> None:
    import standins

    from moslora_xtuner.llm.load import load_internlm2

    llm = load_internlm2(str(standins.make_internlm2(tmp_path / "internlm2")))
    config = MosLoraConfig(r=4, target_modules=["wqkv", "w2"], task_type="CAUSAL_LM", init_lora_weights=False)
    model = MosLoraCausalLM(llm, config, chunked_loss=True, skip_padding_mask=True).train()
    data = batch()
    loss = model(data)["loss"]
    loss.backward()
    assert all(bool(w.grad.any()) for w in model.parameters() if w.requires_grad and w.grad is not None)
    assert all(w.grad is not None for w in model.parameters() if w.requires_grad)
    assert float(loss) == pytest.approx(expected(model.eval(), data), rel=1e-4)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match="llm_lora is missing"):
        MosLoraCausalLM(build_llama())
    with pytest.raises(ConfigError, match="no target_modules"):
        MosLoraCausalLM(build_llama(), LoraConfig(r=4))
    with pytest.raises(ConfigError, match="rank 64 is larger"):
        MosLoraCausalLM(build_llama(), LoraConfig(r=64, target_modules=TARGETS))
    quantised = build_llama()
    quantised.is_loaded_in_4bit = True
    with pytest.raises(ConfigError, match="LoHaConfig cannot sit on layers of 4 bits"):
        MosLoraCausalLM(quantised, KINDS["loha"]())
    for pictures in ({"input_ids": [1, -200, 2]}, {"input_ids": [1, 2, 3], "pixel_values": torch.zeros(1, 3, 8, 8)}):
        data = collate([{"labels": [1, 2, 3], **pictures}])["data"]
        with pytest.raises(DataError, match="reads text alone"):
            build()(data)
