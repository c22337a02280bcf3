"""Fused adapters in whole models against the same adapters in PEFT's own way: values, gradients, training, fallback."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fused_pairs import KINDS, assert_alike, pair, step, tuned
from peft import LoraConfig, PeftModel, get_peft_model
from small_llama import IDS, randomise
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fuse, fused


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_told", set())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_has_the_same_loss_and_gradients(kind: str, dropout: float, calls: list[int]) -> None:
    plain, fast = pair(tuned(kind, dropout))
    (wanted, gradients), before = step(plain), len(calls)
    loss, found = step(fast)
    assert (before, len(calls)) == (0, 2 * 7)
    assert loss == pytest.approx(float(wanted), rel=1e-6)
    assert_alike(found, gradients, 2e-5)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_under_checkpointing_the_same_mask_is_drawn_again(kind: str, reentrant: bool) -> None:
    """Twice over: the block is computed again, and in it the mask is drawn again for backward."""
    plain, fast = pair(tuned(kind, 0.3, torch.float64))
    wanted = step(plain)[1]
    for model in (plain, fast):
        model.enable_input_require_grads()
        model.base_model.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        assert_alike(step(model)[1], wanted, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_steps_of_training_stay_together(kind: str) -> None:
    losses = []
    for model in pair(tuned(kind)):
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        torch.manual_seed(0)
        seen = []
        for _ in range(20):
            loss = model(input_ids=IDS, labels=IDS).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            seen.append(float(loss.detach()))
        losses.append(seen)
    assert losses[0][-1] < 0.98 * losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_as_near_to_float64_as_the_plain_way(kind: str, autocast: bool) -> None:
    """Without dropout: bf16 rounds what is kept of x elsewhere, and the exact model has no bf16."""
    adapter = torch.float32 if autocast else torch.bfloat16
    model = tuned(kind, 0.0).to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(adapter)
    exact = step(copy.deepcopy(model).double())[1]

    def error(way: PeftModel) -> float:
        made = step(way, autocast=autocast)[1]
        assert made.keys() == exact.keys()
        return max(float((made[n].double() - g).norm() / g.norm()) for n, g in exact.items())

    plain, fast = pair(model)
    assert error(fast) <= 1.3 * error(plain)


def in_dora(model: PeftModel) -> dict[str, Any]:
    return {}


def with_two(model: PeftModel) -> dict[str, Any]:
    model.add_adapter("second", model.peft_config["default"])
    model.base_model.set_adapter(["default", "second"])
    return {}


def with_names(model: PeftModel) -> dict[str, Any]:
    model.eval()
    return {"adapter_names": ["default", "__base__"]}


def with_hook(model: PeftModel) -> dict[str, Any]:
    for name, module in model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda module, args, made: made * 2)
    return {}


@pytest.mark.parametrize(
    ("options", "prepare", "said"),
    [
        ({"use_dora": True}, in_dora, "DoraVariant"),
        ({"lora_bias": True}, in_dora, "lora_bias"),
        ({}, with_two, "more than one active adapter"),
        ({}, with_names, "another adapter for each row"),
        ({}, with_hook, "a hook"),
    ],
)
def test_what_it_cannot_do_goes_pefts_way_and_is_told_once(
    options: dict[str, Any], prepare: Callable[[PeftModel], dict[str, Any]], said: str, calls: list[int]
) -> None:
    model = tuned("learned", 0.0, **options)
    given = prepare(model)
    wanted = model(input_ids=IDS, **given).logits
    assert fuse(model) == 14
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = [model(input_ids=IDS, **given).logits for _ in range(2)]
    assert all(torch.equal(each, wanted) for each in found)
    assert not calls
    assert [said in str(each.message) for each in told if "separate operations" in str(each.message)] == [True]


def test_torch_compile_takes_the_plain_way(calls: list[int]) -> None:
    config = MosLoraConfig(r=4, target_modules=["proj"])
    model = randomise(get_peft_model(nn.ModuleDict({"proj": nn.Linear(16, 16)}), config))  # type: ignore[arg-type]
    fuse(model)
    layer: Any = model.base_model.model["proj"]
    x = torch.randn(3, 16)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    assert len(calls) == 1  # the call that was not compiled


@pytest.mark.parametrize("kind", KINDS)
def test_disabled_merged_and_put_back(kind: str, calls: list[int]) -> None:
    model = tuned(kind).eval()
    with torch.no_grad():
        wanted = model(input_ids=IDS).logits
        with model.disable_adapter():
            base = model(input_ids=IDS).logits
        fuse(model)
        fused_logits = model(input_ids=IDS).logits
        count = len(calls)
        with model.disable_adapter():
            assert torch.equal(model(input_ids=IDS).logits, base)
        model.merge_adapter()
        merged = model(input_ids=IDS).logits
        model.unmerge_adapter()
        assert (count, len(calls)) == (14, 14)
        fuse(model, on=False)
        torch.testing.assert_close(model(input_ids=IDS).logits, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(fused_logits, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(merged, wanted, rtol=1e-4, atol=1e-5)
    assert len(calls) == 14


def test_nothing_of_it_is_saved(tmp_path: Any) -> None:
    plain, fast = pair(tuned("learned"))
    for model, name in ((plain, "plain"), (fast, "fast")):
        model.save_pretrained(str(tmp_path / name))
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("plain", "fast")]
    assert weights[0] == weights[1]
    configs = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("plain", "fast")]
    for config in configs:
        config["target_modules"].sort()  # of a set
    assert configs[0] == configs[1]


def test_layers_that_cannot_have_a_mixer_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    base = nn.ModuleDict({"proj": nn.Linear(8, 8), "conv": nn.Conv1d(4, 4, 1), "embed": nn.Embedding(8, 8)})
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["proj", "conv", "embed"]))  # type: ignore[arg-type]
    kinds = [type(model.base_model.model[name]) for name in ("conv", "embed")]
    assert fuse(model) == 1
    assert [type(model.base_model.model[name]) for name in ("conv", "embed")] == kinds


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "given",
    [
        lambda: torch.randn(16, 7, 5).permute(1, 2, 0),
        lambda: torch.randn(5, 7, 16).transpose(0, 1),
        lambda: torch.randn(16, 9).T,
        lambda: torch.randn(5, 7, 1, 16).expand(5, 7, 3, 16),
        lambda: torch.randn(8, 20, 32)[:, ::2, ::2],
        lambda: torch.randn(0, 16),
        lambda: torch.randn(16),
        lambda: torch.randn(2, 3, 70_000)[..., :16],
    ],
    ids=["permuted", "rows swapped", "transposed", "expanded", "strided", "no rows", "one vector", "cut"],
)
def test_inputs_of_any_shape_and_layout(given: Callable[[], Tensor], bias: bool, dropout: float) -> None:
    torch.manual_seed(0)
    x = given().double()
    config = MosLoraConfig(r=4, lora_dropout=dropout, target_modules=["proj"])
    layer: Any = nn.ModuleDict({"proj": nn.Linear(16, 24, bias=bias)})
    model = randomise(get_peft_model(layer, config)).double().train()  # type: ignore[arg-type]
    proj: Any = model.base_model.model["proj"]  # type: ignore[union-attr]
    made = []
    for on in (False, True):
        fuse(model, on)
        read = x.clone(memory_format=torch.preserve_format).requires_grad_()
        torch.manual_seed(1)
        y = proj(read)
        y.square().sum().backward()
        made.append([y.detach(), read.grad, *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        model.zero_grad()
    assert len(made[0]) == len(made[1]) == 5
    for wanted, found in zip(*made, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_dropout_of_everything_goes_the_plain_way(calls: list[int]) -> None:
    model = tuned("LoRA", 1.0)
    fuse(model)
    assert torch.isfinite(model(input_ids=IDS).logits).all()
    assert not calls
