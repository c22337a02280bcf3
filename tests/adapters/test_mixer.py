"""Initialisation: what is drawn, from where, and what it means for the first steps of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.adapters.mixer import (
    ButterflyMixer,
    LearnedMixer,
    flora_factor,
    initial_mixer,
    mixer_generator,
)
from moslora_xtuner.errors import AdapterError

Holds = Callable[[str, float, float], None]
TARGETS = ["q_proj", "v_proj", "down_proj"]


def mixers(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if "lora_AB" in n}


def adapt(llama: Callable[..., nn.Module], seed: int = 0, **kwargs: object) -> PeftModel:
    base = llama()
    torch.manual_seed(seed)
    return get_peft_model(base, MosLoraConfig(r=8, lora_alpha=8, target_modules=TARGETS, **kwargs))  # type: ignore[arg-type]


def test_statistics_of_each_strategy() -> None:
    r, generator = 256, torch.Generator().manual_seed(0)
    kaiming = initial_mixer("kaiming_uniform", r, generator)
    # nn.init.kaiming_uniform_(a=sqrt(5)): bound = sqrt(6 / ((1 + 5) fan_in)) = 1/sqrt(r) = 1/16.
    assert 0.0624 < float(kaiming.abs().max()) <= 0.0625
    assert float(kaiming.std()) == pytest.approx(0.0625 / 3**0.5, rel=0.02)
    orthogonal = initial_mixer("orthogonal", r, generator)
    assert float((orthogonal.T @ orthogonal - torch.eye(r)).abs().max()) < 1e-6
    normal = initial_mixer("normal", r, generator)
    assert float(normal.std()) == pytest.approx(1 / r, rel=0.02)
    unit = initial_mixer("normal_unit", r, generator)
    assert float(unit.std()) == pytest.approx(1, rel=0.02)
    assert float(unit.mean()) == pytest.approx(0, abs=0.02)
    xavier, theirs = initial_mixer("xavier_uniform", r, generator), nn.init.xavier_uniform_(torch.empty(r, r))
    assert float(xavier.abs().max()) == pytest.approx(float(theirs.abs().max()), rel=1e-3)
    assert float(xavier.std()) == pytest.approx(float(theirs.std()), rel=0.02)
    assert torch.equal(initial_mixer("identity", 3, generator), torch.eye(3))
    assert torch.equal(initial_mixer("zero", 3, generator), torch.zeros(3, 3))
    with pytest.raises(AdapterError, match="unknown"):
        initial_mixer("xavier", 3, generator)


def test_an_orthogonal_mixer_is_not_biased_to_one_sign() -> None:
    generator = torch.Generator().manual_seed(1)
    signs = [float(torch.linalg.det(initial_mixer("orthogonal", 3, generator))) for _ in range(200)]
    assert 60 < sum(sign > 0 for sign in signs) < 140
    corner = [float(initial_mixer("orthogonal", 3, generator)[0, 0]) for _ in range(400)]
    assert abs(sum(corner) / len(corner)) < 0.1


@pytest.mark.parametrize("init", ["kaiming_uniform", "xavier_uniform", "orthogonal", "normal", "normal_unit"])
def test_deterministic_under_the_seed_and_own_for_each_layer(llama: Callable[..., nn.Module], init: str) -> None:
    first, again, other = (mixers(adapt(llama, seed, mixer_init=init)) for seed in (4, 4, 5))
    assert len(first) == 6
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first)
    tensors = list(first.values())
    assert all(not torch.equal(a, b) for i, a in enumerate(tensors) for b in tensors[:i])


@pytest.mark.parametrize("options", [{}, {"mixer_init": "flora"}, {"freeze_mixer": True, "mixer_init": "orthogonal"}])
def test_the_name_of_an_adapter_makes_no_difference_and_the_next_one_has_its_own_draw(
    llama: Callable[..., nn.Module], options: dict[str, Any]
) -> None:
    config = MosLoraConfig(r=8, target_modules=TARGETS, **options)
    drawn = []
    for name in ("default", "other"):
        base = llama()
        torch.manual_seed(3)
        model = get_peft_model(base, config, adapter_name=name)
        model.add_adapter("next", config)
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        drawn.append({key.replace(f".{name}.", ".first."): value for key, value in tensors.items() if "lora_" in key})
    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(drawn[0][key], drawn[1][key]) for key in drawn[0])
    factors = [key for key in drawn[0] if "lora_A.first" in key]
    factors += [key for key in drawn[0] if "lora_AB.first" in key and options.get("mixer_init") != "flora"]
    assert not any(torch.equal(drawn[0][key], drawn[0][key.replace(".first.", ".next.")]) for key in factors)


def test_a_draw_leaves_the_random_state() -> None:
    state = torch.random.get_rng_state()
    torch.rand(4, generator=mixer_generator("layers.0.q_proj"))
    assert torch.equal(state, torch.random.get_rng_state())


def test_lora_and_moslora_start_from_the_same_a_and_leave_the_same_random_state(
    llama: Callable[..., nn.Module],
) -> None:
    mixed = adapt(llama, 9, mixer_init="orthogonal")
    state = torch.random.get_rng_state()
    base = llama()
    torch.manual_seed(9)
    plain = get_peft_model(base, LoraConfig(r=8, lora_alpha=8, target_modules=TARGETS))
    assert torch.equal(state, torch.random.get_rng_state())
    own = dict(mixed.named_parameters())
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, own[name]), name


def test_the_mixer_is_not_rounded_to_a_half_precision_base(llama: Callable[..., nn.Module]) -> None:
    base = llama().bfloat16()
    model = get_peft_model(base, MosLoraConfig(r=8, target_modules=TARGETS, mixer_init="orthogonal"))
    for m in mixers(model).values():
        assert m.dtype is torch.float32
        assert float((m.T @ m - torch.eye(8)).abs().max()) < 1e-6
    assert {p.dtype for n, p in model.named_parameters() if "lora_" in n} == {torch.float32}


def test_without_autocast_the_whole_adapter_has_the_dtype_of_the_base(
    llama: Callable[..., nn.Module],
) -> None:
    config = MosLoraConfig(r=8, target_modules=TARGETS)
    model = get_peft_model(llama().bfloat16(), config, autocast_adapter_dtype=False)
    assert {p.dtype for n, p in model.named_parameters() if "lora_" in n} == {torch.bfloat16}
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.dtype is torch.bfloat16


def losses_and_weights(
    model: nn.Module, steps: int, make: Callable[..., torch.optim.Optimizer]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    ids = torch.tensor([[1, 5, 9, 2, 7, 3, 11, 4]])
    optimizer = make([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(steps + 1):
        loss = model(input_ids=ids, labels=ids).loss
        losses.append(loss.detach().clone())
        if len(losses) <= steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    weights = {n: p.detach().clone() for n, p in model.named_parameters() if ".lora_A." in n or ".lora_B." in n}
    return losses, weights


def abs_gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_identity_init_is_lora_at_steps_0_and_1(
    llama: Callable[..., nn.Module], optimizer: Callable[..., torch.optim.Optimizer], holds: Holds
) -> None:
    def make(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return optimizer(parameters, lr=lr, weight_decay=0.0)

    mixed = adapt(llama, 2, mixer_init="identity")
    base = llama()
    torch.manual_seed(2)
    plain = get_peft_model(base, LoraConfig(r=8, lora_alpha=8, target_modules=TARGETS))
    found, found_weights = losses_and_weights(mixed, 1, make)
    wanted, wanted_weights = losses_and_weights(plain, 1, make)
    holds("identity start and LoRA, losses at steps 0 and 1", max(map(abs_gap, found, wanted)), 0)
    assert found[1] < found[0]
    parts = max(abs_gap(found_weights[n], wanted_weights[n]) for n in wanted_weights)
    holds("identity start and LoRA, A and B after step 1", parts, 0)
    later, _ = losses_and_weights(mixed, 2, make)
    lora_later, _ = losses_and_weights(plain, 2, make)
    assert later != lora_later


@pytest.mark.filterwarnings("ignore:mixer_init='zero'")
def test_zero_init_has_zero_gradients_everywhere(llama: Callable[..., nn.Module], holds: Holds) -> None:
    model = adapt(llama, 2, mixer_init="zero", allow_zero_mixer=True)
    ids = torch.tensor([[1, 5, 9, 2]])
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert len(gradients) == 18
    assert all(g is not None for g in gradients.values())
    holds("zero start, largest gradient", max(float(g.abs().max()) for g in gradients.values()), 0)


def test_flora_starts_as_the_base_and_learns_through_its_mixer(llama: Callable[..., nn.Module]) -> None:
    model = adapt(llama, 2, mixer_init="flora")
    ids = torch.tensor([[1, 5, 9, 2]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, llama()(input_ids=ids).logits)
    model(input_ids=ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        if "lora_AB" in name:
            assert not parameter.any()
            assert parameter.grad is not None
            assert parameter.grad.any(), name
        elif "lora_" in name:
            assert parameter.any(), name
            assert parameter.grad is not None
            assert not parameter.grad.any(), name
    with pytest.raises(AdapterError, match="flora"):
        adapt(llama, 2, mixer_init="flora", freeze_mixer=True)


def test_floras_factors_are_kaiming_normal() -> None:
    drawn = flora_factor(512, 128, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    reference = nn.init.kaiming_normal_(torch.empty(512, 128), a=3**0.5)
    assert float(drawn.std()) == pytest.approx(float(reference.std()), rel=0.02)


def test_every_other_init_has_a_gradient_at_b(llama: Callable[..., nn.Module]) -> None:
    for init in ("kaiming_uniform", "orthogonal", "identity", "normal"):
        model = adapt(llama, 2, mixer_init=init)
        ids = torch.tensor([[1, 5, 9, 2]])
        model(input_ids=ids, labels=ids).loss.backward()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                assert parameter.grad is not None
                assert parameter.grad.any(), name


def test_a_frozen_mixer_survives_a_checkpoint_without_frozen_parameters(
    llama: Callable[..., nn.Module],
) -> None:
    model = adapt(llama, 2, mixer_init="orthogonal", freeze_mixer=True)
    state = model.state_dict()
    # What DeepSpeed's module_state_dict(exclude_frozen_parameters=True) does.
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            del state[name]
    assert len([name for name in state if "lora_AB" in name]) == 6
    other = adapt(llama, 3, mixer_init="orthogonal", freeze_mixer=True)
    other.load_state_dict(state, strict=False)
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    for name in [name for name in state if "lora_AB" in name]:
        del state[name]
    with pytest.raises(AdapterError, match="missing"):
        other.load_state_dict(state, strict=False)


def test_a_frozen_mixer_stays_frozen_through_switching(llama: Callable[..., nn.Module]) -> None:
    model = adapt(llama, 2, mixer_init="orthogonal", freeze_mixer=True)
    for switch in (
        lambda: None,
        lambda: model.set_adapter("default"),
        lambda: (model.disable_adapter_layers(), model.enable_adapter_layers()),
    ):
        switch()
        trainable = {n for n, p in model.named_parameters() if p.requires_grad}
        assert len(trainable) == 12
        assert not any("lora_AB" in n for n in trainable)


def test_fixed_mixers_by_hand() -> None:
    h = torch.tensor([1.0, 2.0, 10.0, 20.0])
    assert ButterflyMixer(4)(h).tolist() == [11.0, 22.0, 11.0, 22.0]
    assert (ButterflyMixer(4).matrix(torch.float32, torch.device("cpu")) @ h).tolist() == [11, 22, 11, 22]
    with pytest.raises(AdapterError, match="even rank"):
        ButterflyMixer(3)
    learned = LearnedMixer(2, frozen=False, dtype=torch.float32, device=torch.device("cpu"))
    learned.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    # Column vectors: M h = (1*5 + 2*6, 3*5 + 4*6).
    assert learned(torch.tensor([5.0, 6.0])).tolist() == [17.0, 39.0]
