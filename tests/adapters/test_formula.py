"""The layer against the paper's formula in float64: output, every gradient, merging."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, MosLoraModel
from moslora_xtuner.adapters.config import MIXER_INITS
from moslora_xtuner.errors import AdapterError

Holds = Callable[[str, float, float], None]


class OneLinear(nn.Module):
    """The smallest model that PEFT can adapt."""

    def __init__(self, d1: int, d2: int) -> None:
        super().__init__()
        self.proj = nn.Linear(d1, d2)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


def adapted(d1: int, d2: int, r: int, seed: int, **kwargs: object) -> nn.Module:
    torch.manual_seed(seed)
    config = MosLoraConfig(r=r, target_modules=["proj"], **kwargs)  # type: ignore[arg-type]
    model = get_peft_model(OneLinear(d1, d2), config)
    layer = model.base_model.model.proj
    raw_b(layer).data.normal_()
    return model


def paper_m(mixer: str, layer: nn.Module, r: int) -> Tensor:
    """M = W^T in float64, written from the paper's table and not from the package."""
    if mixer == "learned":
        return layer.lora_AB["default"].weight.detach().double()  # type: ignore[union-attr, index]
    if mixer == "identity":
        return torch.eye(r, dtype=torch.float64)
    m = torch.zeros(r, r, dtype=torch.float64)
    for row, column in itertools.product(range(r), range(r)):
        m[row, column] = float(row % (r // 2) == column % (r // 2))
    return m


def raw_b(layer: nn.Module) -> Tensor:
    return dict(layer.named_parameters())["lora_B.default.weight"]


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


def reference(
    x: Tensor, layer: nn.Module, m: Tensor, scale: float, upstream: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """y = x W0 + s x A W B in the paper's orientation, and its derivatives by the product rule."""
    w0 = layer.base_layer.weight.detach().double().T  # type: ignore[union-attr, operator]
    bias = layer.base_layer.bias.detach().double()  # type: ignore[union-attr, operator]
    a = layer.lora_A["default"].weight.detach().double().T  # type: ignore[union-attr, index]
    b = raw_b(layer).detach().double().T
    w = m.T
    x, g = x.double(), upstream.double()
    y = x @ w0 + bias + scale * (x @ a @ w @ b)
    gradients = {
        "x": g @ w0.T + scale * (g @ b.T @ w.T @ a.T),
        "A": (scale * (x.T @ g @ b.T @ w.T)).T,
        "M": (scale * (a.T @ x.T @ g @ b.T)).T,
        "B": (scale * (w.T @ a.T @ x.T @ g)).T,
    }
    return y, gradients


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("mixer", ["learned", "butterfly", "identity"])
def test_forward_and_every_gradient_equal_the_formula(mixer: str, use_rslora: bool, holds: Holds) -> None:
    d1, d2, r, alpha = 40, 24, 8, 12
    model = adapted(d1, d2, r, seed=3, mixer=mixer, lora_alpha=alpha, use_rslora=use_rslora)
    layer = model.base_model.model.proj
    x = torch.randn(5, 7, d1, requires_grad=True)
    upstream = torch.randn(5, 7, d2)
    found = model(x)
    found.backward(upstream)
    scale = alpha / r**0.5 if use_rslora else alpha / r
    m = paper_m(mixer, layer, r)
    wanted, gradients = reference(x.detach().reshape(-1, d1), layer, m, scale, upstream.reshape(-1, d2))
    holds("output of a layer, float32", relative(found.reshape(-1, d2), wanted), 1e-6)
    holds("gradient of x", relative(x.grad.reshape(-1, d1), gradients["x"]), 1e-6)
    holds("gradient of A", relative(layer.lora_A["default"].weight.grad, gradients["A"]), 1e-6)
    holds("gradient of B", relative(raw_b(layer).grad, gradients["B"]), 1e-6)
    if mixer == "learned":
        holds("gradient of M", relative(layer.lora_AB["default"].weight.grad, gradients["M"]), 1e-6)
    assert layer.base_layer.weight.grad is None


@settings(max_examples=40, deadline=None)
@given(
    d1=st.integers(2, 33),
    d2=st.integers(2, 33),
    half_rank=st.integers(1, 8),
    batch=st.integers(1, 6),
    case=st.sampled_from([("learned", init) for init in MIXER_INITS] + [("butterfly", None), ("identity", None)]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 2**20),
)
@pytest.mark.filterwarnings("ignore:mixer_init='zero'")
def test_any_shape_rank_init_and_dtype_follows_the_formula_and_merges(
    d1: int, d2: int, half_rank: int, batch: int, case: tuple[str, str | None], dtype: torch.dtype, seed: int
) -> None:
    mixer, init = case
    r = 2 * half_rank
    model = adapted(d1, d2, r, seed, mixer=mixer, mixer_init=init, allow_zero_mixer=True, lora_alpha=r).to(dtype)
    layer = model.base_model.model.proj
    x, upstream = torch.randn(batch, d1, dtype=dtype), torch.randn(batch, d2)
    m = paper_m(mixer, layer, r)
    (wanted, _), parts = reference(x, layer, m, 1.0, upstream), _magnitude(x, layer, m)
    eps = torch.finfo(dtype).eps
    with torch.no_grad():
        assert float((model(x).double() - wanted).norm()) <= 8 * eps * parts
        before = layer.base_layer.weight.clone()
        model.base_model.merge_adapter()
        assert float((model(x).double() - wanted).norm()) <= 8 * eps * parts
        model.base_model.unmerge_adapter()
    scale = max(float(before.abs().max()), float(layer.get_delta_weight("default").detach().abs().max()))
    assert float((layer.base_layer.weight - before).abs().max()) <= 2 * eps * scale


def _magnitude(x: Tensor, layer: nn.Module, m: Tensor) -> float:
    """The size of y if nothing in its sums cancelled: what rounding errors are a share of."""
    a, b = layer.lora_A["default"].weight.detach().double(), raw_b(layer).detach().double()  # type: ignore[union-attr, index]
    w0, bias = layer.base_layer.weight.detach().double(), layer.base_layer.bias.detach().double()  # type: ignore[union-attr, operator]
    x = x.double().abs()
    return float((x @ w0.abs().T + bias.abs() + x @ a.abs().T @ m.abs().T @ b.abs().T).norm())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3)])
def test_merge_is_exact_to_the_dtype(dtype: torch.dtype, tolerance: float, holds: Holds) -> None:
    model = adapted(64, 64, 16, seed=5, lora_alpha=32).to(dtype)
    layer = model.base_model.model.proj
    a, b = layer.lora_A["default"].weight.double(), raw_b(layer).double()
    before = layer.base_layer.weight.detach().double()
    delta = (2.0 * b @ paper_m("learned", layer, 16) @ a).detach()
    kind = str(dtype).removeprefix("torch.")
    layer.merge(safe_merge=True)
    holds(f"merge, {kind}", relative(layer.base_layer.weight, before + delta), tolerance)
    layer.unmerge()
    # What merging and taking back can lose: a rounding of the larger of the two, each way.
    lost = (layer.base_layer.weight.double() - before).abs().max() / (before.abs() + delta.abs()).max()
    holds(f"merge and unmerge, {kind}", float(lost), 2 * torch.finfo(dtype).eps)


def test_butterfly_adds_the_cross_terms_and_halves_the_rank(holds: Holds) -> None:
    r = 8
    model = adapted(20, 18, r, seed=7, mixer="butterfly", lora_alpha=r)
    layer = model.base_model.model.proj
    a, b = layer.lora_A["default"].weight.double(), raw_b(layer).double()
    a1, a2, b1, b2 = a[: r // 2], a[r // 2 :], b[:, : r // 2], b[:, r // 2 :]
    delta = layer.get_delta_weight("default").detach()
    holds("TS-Mixing's delta is (A1 + A2)(B1 + B2)", relative(delta, ((b1 + b2) @ (a1 + a2)).detach()), 1e-6)
    assert torch.linalg.matrix_rank(delta.double(), rtol=1e-5) == r // 2
    assert not hasattr(layer.lora_AB["default"], "weight")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == r * (20 + 18)


def test_dropout_is_before_a_alone() -> None:
    model = adapted(16, 12, 4, seed=9, lora_alpha=4, lora_dropout=0.5).train()
    layer = model.base_model.model.proj
    x = torch.randn(6, 16)
    torch.manual_seed(1)
    dropped = nn.functional.dropout(x, 0.5).double()
    base = x.double() @ layer.base_layer.weight.double().T + layer.base_layer.bias.double()
    a, b, m = layer.lora_A["default"].weight.double(), raw_b(layer).double(), paper_m("learned", layer, 4)
    torch.manual_seed(1)
    assert relative(model(x), (base + dropped @ a.T @ m.T @ b.T).detach()) < 2e-6
    assert relative(model.eval()(x), (base + x.double() @ a.T @ m.T @ b.T).detach()) < 2e-6


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_the_layers_own_bias_is_trained_and_saved_or_refused(bias: str, tmp_path: Path) -> None:
    try:
        model = adapted(6, 5, 2, seed=4, bias=bias)
    except AdapterError:
        stock = get_peft_model(OneLinear(6, 5), LoraConfig(r=2, target_modules=["proj"], bias=bias))
        assert not [name for name in get_peft_model_state_dict(stock) if name.endswith("bias")]  # it would be lost
        return
    own = model.base_model.model.proj.base_layer.bias
    assert own.requires_grad
    own.data.normal_()
    model.save_pretrained(str(tmp_path))
    torch.manual_seed(4)
    again = PeftModel.from_pretrained(OneLinear(6, 5), str(tmp_path))
    x = torch.randn(3, 6)
    assert torch.equal(again(x), model(x))


def test_dora_uses_the_mixed_delta(holds: Holds) -> None:
    torch.manual_seed(11)
    model = get_peft_model(OneLinear(16, 12), MosLoraConfig(r=4, lora_alpha=4, target_modules=["proj"], use_dora=True))
    layer = model.base_model.model.proj
    layer.lora_B["default"].weight.data.normal_()
    x = torch.randn(6, 16)
    w0, bias = layer.base_layer.weight.detach().double(), layer.base_layer.bias.detach().double()
    b, a = raw_b(layer).detach().double(), layer.lora_A["default"].weight.detach().double()
    v = w0 + b @ paper_m("learned", layer, 4) @ a
    # DoRA, equation 5: the magnitude is that of W0 at the start, the direction that of W0 + delta.
    wanted = x.double() @ (w0.norm(dim=1, keepdim=True) * v / v.norm(dim=1, keepdim=True)).T + bias
    with torch.no_grad():
        holds("output of a DoRA layer", relative(model(x), wanted), 2e-6)
        model.base_model.merge_adapter()
        assert relative(model(x), wanted) < 2e-6


@pytest.mark.parametrize("mixer", ["learned", "butterfly"])
def test_dora_over_a_b_that_is_not_zero_starts_with_the_magnitude_of_the_mixed_weight(mixer: str) -> None:
    torch.manual_seed(11)
    settings_ = {"lora_alpha": 8, "target_modules": ["proj"], "use_dora": True, "init_lora_weights": False}
    model = get_peft_model(OneLinear(16, 12), MosLoraConfig(r=4, mixer=mixer, **settings_))  # type: ignore[arg-type]
    layer = model.base_model.model.proj
    a, b = layer.lora_A["default"].weight.double(), raw_b(layer).double()
    v = layer.base_layer.weight.double() + 2.0 * b @ paper_m(mixer, layer, 4) @ a
    assert relative(layer.lora_magnitude_vector["default"].weight, v.norm(dim=1).detach()) < 1e-6
    assert layer.lora_magnitude_vector["default"].weight.requires_grad
    x = torch.randn(6, 16)
    assert relative(model(x), (x.double() @ v.T + layer.base_layer.bias.double()).detach()) < 1e-6


def test_the_tuner_is_ours() -> None:
    assert isinstance(adapted(4, 4, 2, seed=0).base_model, MosLoraModel)
