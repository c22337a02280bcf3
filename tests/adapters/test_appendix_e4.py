"""Appendix E.4 of the paper: which mixers are no more than another start of LoRA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig

Holds = Callable[[str, float, float], None]
STEPS, RATE, D1, D2, R = 50, 0.05, 12, 10, 4


def adapted(config: LoraConfig) -> nn.Module:
    torch.manual_seed(0)
    return get_peft_model(nn.Sequential(nn.Linear(D1, D2)), config)  # type: ignore[arg-type]


def settings(**mixer: Any) -> dict[str, Any]:
    return {"r": R, "lora_alpha": R, "target_modules": ["0"], **mixer}


def path(model: nn.Module) -> list[Tensor]:
    """The model's outputs on fixed inputs after each step of plain gradient descent."""
    generator = torch.Generator().manual_seed(1)
    x, wanted = (torch.randn(32, width, generator=generator) for width in (D1, D2))
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    outputs = []
    for _ in range(STEPS):
        loss = (model(x) - wanted).square().sum() / len(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        outputs.append(model(x).detach())
    return outputs


def lora_from(mixed: nn.Module) -> nn.Module:
    """LoRA that starts from the paper's A W; PEFT stores its transpose, M A."""
    layer = mixed.base_model.model[0]  # type: ignore[union-attr,index]
    start = layer.lora_AB["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    plain = adapted(LoraConfig(**settings()))
    plain.base_model.model[0].lora_A["default"].weight.data.copy_(start)  # type: ignore[union-attr,index]
    return plain


def gap(first: list[Tensor], second: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def test_a_frozen_orthogonal_mixer_follows_the_path_of_lora(holds: Holds) -> None:
    mixed = adapted(MosLoraConfig(**settings(mixer_init="orthogonal", freeze_mixer=True)))
    plain = lora_from(mixed)
    outputs = path(mixed)
    assert float((outputs[-1] - outputs[0]).abs().max()) > 0.1  # it does learn
    holds("50 steps of a frozen orthogonal mixer and of LoRA from A W", gap(outputs, path(plain)), 1e-5)


@pytest.mark.parametrize(
    "mixer",
    [{"mixer_init": "orthogonal"}, {"mixer_init": "kaiming_uniform", "freeze_mixer": True}],
    ids=["learned", "frozen, not orthogonal"],
)
def test_other_mixers_leave_it(mixer: dict[str, Any]) -> None:
    mixed = adapted(MosLoraConfig(**settings(**mixer)))
    plain = lora_from(mixed)
    assert gap(path(mixed), path(plain)) > 1e-2
