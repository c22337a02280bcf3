"""What a mixer cannot be put into, and who may not drop it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from peft import LoraModel, PeftModel, get_peft_model
from torch import nn

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.errors import AdapterError

Trained = Callable[..., PeftModel]


def test_other_layers_are_refused_before_anything_is_changed(llama: Callable[..., nn.Module]) -> None:
    model = llama()
    config = MosLoraConfig(r=4, target_modules=["q_proj", "embed_tokens"])
    with pytest.raises(AdapterError, match=r"model\.embed_tokens \(Embedding\)"):
        get_peft_model(model, config)
    assert not [n for n, _ in model.named_modules() if "lora" in n]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2)
        self.conv = nn.Conv2d(3, 4, 1)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("attn", "MultiheadAttention"),
        ("out_proj", "NonDynamicallyQuantizableLinear"),
        ("conv", "Conv2d"),
    ],
)
def test_layers_that_peft_would_adapt_without_lora_b_in_forward(target: str, kind: str) -> None:
    with pytest.raises(AdapterError, match=kind):
        get_peft_model(Attention(), MosLoraConfig(r=2, target_modules=[target]))
