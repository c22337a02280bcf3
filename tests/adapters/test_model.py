"""PEFT's life of an adapter with mixers in it: several adapters, merging, copying, compiling, refusing."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, LoraModel, PeftModel, get_peft_model, inject_adapter_in_model
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from moslora_xtuner.adapters import MosLoraConfig, MosLoraModel, has_mixer

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"]
Logits = Callable[..., Tensor]
Trained = Callable[..., PeftModel]


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def fill(model: nn.Module, adapter: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name and f".{adapter}." in name:
            noise = torch.randn(parameter.shape, generator=generator) * 0.4 / parameter.shape[-1] ** 0.5
            parameter.data.copy_(noise)


@pytest.fixture
def several(trained: Trained) -> PeftModel:
    """Adapters default (learned), fly (butterfly, other rank) and plain (a stock LoraConfig)."""
    model = trained()
    model.add_adapter("fly", MosLoraConfig(r=6, lora_alpha=6, target_modules=TARGETS, mixer="butterfly"))
    model.add_adapter("plain", LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj"]))
    model.add_adapter("other", MosLoraConfig(r=2, lora_alpha=4, target_modules=["v_proj", "q_proj"]))
    for seed, adapter in enumerate(("fly", "plain", "other"), start=20):
        fill(model, adapter, seed)
    return model.eval()


def test_switching_trains_the_active_mixer_alone(several: PeftModel) -> None:
    for adapter, count in (("other", 12), ("fly", 28), ("plain", 4), ("default", 42)):
        several.set_adapter(adapter)
        trainable = [n for n, p in several.named_parameters() if p.requires_grad]
        assert all(f".{adapter}." in n for n in trainable)
        assert len(trainable) == count


def test_disabled_is_the_base_model(several: PeftModel, llama: Callable[..., nn.Module], logits: Logits) -> None:
    with several.disable_adapter():
        assert torch.equal(logits(several), logits(llama()))
    assert gap(logits(several), logits(llama())) > 1e-3


def test_an_adapter_made_again_under_its_name_has_no_old_mixer(several: PeftModel, logits: Logits) -> None:
    try:
        several.add_adapter("default", LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS))
    except ValueError as error:
        if "already exists" not in str(error):
            raise
        pytest.skip(f"peft {peft.__version__} refuses a second adapter of the same name")
    assert not [n for n, _ in several.named_parameters() if "lora_AB.default" in n]
    several.add_adapter("fly", MosLoraConfig(r=4, target_modules=TARGETS))
    assert len([n for n, _ in several.named_parameters() if "lora_AB.fly" in n]) == 14
    several.set_adapter("default")
    with several.disable_adapter():
        base = logits(several)
    assert torch.equal(logits(several), base)


def test_deleting_removes_the_mixer_and_leaves_the_others(several: PeftModel, logits: Logits) -> None:
    several.set_adapter("other")
    wanted = logits(several)
    several.delete_adapter("default")
    assert not [n for n, _ in several.named_parameters() if ".default." in n]
    assert torch.equal(logits(several), wanted)
    several.delete_adapter("other")
    assert not [n for n, _ in several.named_parameters() if "lora_AB" in n]


def test_a_mixed_batch_gives_each_row_its_own_adapter(several: PeftModel, logits: Logits) -> None:
    for first, second in (("default", "other"), ("fly", "__base__"), ("plain", "fly")):
        rows = []
        for row, adapter in enumerate((first, second)):
            if adapter == "__base__":
                with several.disable_adapter():
                    rows.append(logits(several)[row])
            else:
                several.set_adapter(adapter)
                rows.append(logits(several)[row])
        found = logits(several, adapter_names=[first, second])
        assert gap(found, torch.stack(rows)) < 1e-6


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.sampled_from(["default", "fly", "plain", "other", "merge", "off"]), max_size=8))
def test_adapters_switched_in_any_order_compute_what_they_did_alone(
    several: PeftModel, logits: Logits, order: list[str]
) -> None:
    alone = {}
    for adapter in ("default", "fly", "plain", "other"):
        several.set_adapter(adapter)
        alone[adapter] = logits(several)
    current = "other"
    for step in order:
        if step == "merge":
            several.merge_adapter()
            assert gap(logits(several), alone[current]) < 1e-5
            several.unmerge_adapter()
        elif step == "off":
            several.disable_adapter_layers()
            several.enable_adapter_layers()
        else:
            several.set_adapter(current := step)
        assert gap(logits(several), alone[current]) < 1e-5


@pytest.mark.parametrize("mixer", ["learned", "butterfly", "identity"])
def test_merging_for_good_gives_a_plain_model(trained: Trained, logits: Logits, mixer: str) -> None:
    for dtype, tolerance in ((torch.float32, 5e-6), (torch.float64, 1e-14)):
        model = trained(mixer=mixer).to(dtype)
        wanted = logits(model)
        merged = model.merge_and_unload(safe_merge=True)
        assert not [n for n, _ in merged.named_modules() if "lora" in n]
        assert gap(logits(merged), wanted) < tolerance


def test_unloading_gives_the_base_back(trained: Trained, llama: Callable[..., nn.Module], logits: Logits) -> None:
    assert torch.equal(logits(trained().unload()), logits(llama()))


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_has_its_own_mixer(trained: Trained, logits: Logits, how: Callable[[nn.Module], nn.Module]) -> None:
    model = trained()
    wanted = logits(model)
    twin = how(model)
    assert torch.equal(logits(twin), wanted)
    fill(twin, "default", 77)
    assert gap(logits(twin), wanted) > 1e-3
    assert torch.equal(logits(model), wanted)


def test_a_state_dict_names_each_factor_once(trained: Trained, logits: Logits) -> None:
    model = trained()
    keys = [k for k in model.state_dict() if "q_proj.lora" in k and "layers.0" in k]
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    assert keys == [f"{stem}.lora_{part}.default.weight" for part in ("A", "B", "AB")]
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    for assign in (False, True):
        fresh = trained(seed=5)
        fresh.load_state_dict(torch.load(stream, weights_only=True), assign=assign)
        stream.seek(0)
        assert torch.equal(logits(fresh), logits(model))


def test_compiled_and_checkpointed_equal_eager(trained: Trained) -> None:
    ids = torch.tensor([[1, 5, 9, 2, 7]])

    def gradients(model: nn.Module, run: Callable[..., Tensor]) -> dict[str, Tensor]:
        model.zero_grad()
        run(input_ids=ids, labels=ids).loss.backward()  # type: ignore[attr-defined]
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    model = trained()
    wanted = gradients(model, model)
    assert len(wanted) == 42
    compiled = gradients(model, torch.compile(model, backend="aot_eager"))
    model.train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()
    checkpointed = gradients(model, model)
    for name, gradient in wanted.items():
        assert gap(compiled[name], gradient) < 1e-5, name
        assert gap(checkpointed[name], gradient) < 1e-5, name


def surplus_power_of_scaling_in_stock_svd() -> int:
    """1 where PEFT's svd multiplies by the scaling a second time (get_delta_weight has it already), else 0."""
    model = get_peft_model(nn.Sequential(nn.Linear(4, 4)), LoraConfig(r=4, lora_alpha=8, target_modules=["0"]))
    model.add_adapter("none", LoraConfig(r=4, lora_alpha=8, target_modules=["0"]))  # one alone is never svd
    layer = model.base_model.model[0]
    layer.lora_B["default"].weight.data.normal_()
    model.add_weighted_adapter(["default", "none"], [1.0, 1.0], "again", combination_type="svd")
    ratio = (layer.get_delta_weight("again").norm() / layer.get_delta_weight("default").norm()).item()
    power = round(math.log2(ratio))
    assert ratio == pytest.approx(2.0**power, rel=1e-4)
    assert power in (0, 1)
    return power


@pytest.mark.parametrize("combination", ["cat", "svd"])
def test_weighted_sums_of_adapters_use_the_mixed_deltas(several: PeftModel, combination: str) -> None:
    rank = {"svd_rank": 8} if combination == "svd" else {}
    weights = [0.5, 2.0]
    several.add_weighted_adapter(["default", "fly"], weights, "sum", combination_type=combination, **rank)
    layer = several.base_model.model.model.layers[1].mlp.down_proj
    power = surplus_power_of_scaling_in_stock_svd() if combination == "svd" else 0
    parts = zip(weights, ("default", "fly"), strict=True)
    wanted = sum(w * layer.scaling[a] ** power * layer.get_delta_weight(a).detach() for w, a in parts)
    assert gap(layer.get_delta_weight("sum"), wanted) < 1e-5
    assert "sum" not in layer.lora_AB
    assert type(several.peft_config["sum"]) is LoraConfig
    assert isinstance(several.peft_config["default"], MosLoraConfig)


def test_a_single_adapter_copied_linearly_is_its_folded_self(several: PeftModel) -> None:
    several.add_weighted_adapter(["default"], [1.0], "copy", combination_type="linear")
    layer = several.base_model.model.model.layers[0].self_attn.k_proj
    # PEFT's "linear" puts sqrt(weight * scaling) into both factors.
    assert gap(layer.get_delta_weight("copy"), layer.get_delta_weight("default")) < 1e-6


def test_a_plain_config_behaves_as_in_stock_peft(llama: Callable[..., nn.Module], logits: Logits) -> None:
    def settings_() -> LoraConfig:
        return LoraConfig(r=4, target_modules=TARGETS, lora_dropout=0.1, use_dora=True)

    torch.manual_seed(3)
    ours = get_peft_model(llama(), settings_())
    torch.manual_seed(3)
    stock = LoraModel(llama(), settings_(), "default")
    assert isinstance(ours.base_model, MosLoraModel)
    assert not has_mixer(ours)
    own, theirs = ours.base_model.state_dict(), stock.state_dict()
    assert list(own) == list(theirs)
    fill(ours, "default", 5)
    fill(stock, "default", 5)
    assert torch.equal(logits(ours.eval()), logits(stock.eval()))


def test_injection_without_a_peft_model(llama: Callable[..., nn.Module], logits: Logits) -> None:
    config = MosLoraConfig(r=4, target_modules=["q_proj"])
    model = inject_adapter_in_model(config, llama().bfloat16())
    assert has_mixer(model)
    assert torch.isfinite(logits(model)).all()


def test_clip_vision_and_rank_patterns() -> None:
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    model = get_peft_model(
        CLIPVisionModel(config),
        MosLoraConfig(
            r=4,
            lora_alpha=8,
            rank_pattern={"fc1": 6},
            alpha_pattern={"fc1": 3},
            target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
        ),
    )
    tower = model.base_model.model
    layer = getattr(tower, "vision_model", tower).encoder.layers[0]  # transformers 5 has no vision_model
    assert tuple(layer.mlp.fc1.lora_AB["default"].weight.shape) == (6, 6)
    assert layer.mlp.fc1.scaling["default"] == 0.5
    assert tuple(layer.mlp.fc2.lora_AB["default"].weight.shape) == (4, 4)
    pixels = torch.randn(1, 3, 28, 28)
    model(pixel_values=pixels).last_hidden_state.sum().backward()
    assert layer.mlp.fc1.lora_B["default"].weight.grad is not None


def test_no_more_warnings_than_with_stock_lora(llama: Callable[..., nn.Module]) -> None:
    seen = []
    for kind in (LoraConfig, MosLoraConfig):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            get_peft_model(llama(), kind(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"))
        seen.append([str(warning.message) for warning in caught])
    assert seen[0] == seen[1]
