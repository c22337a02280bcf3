"""LoRA layers that may have mixers: what of PEFT's layers does not ask the variant is answered here.

One layer may hold mixed and plain adapters; a plain one goes PEFT's own way through every method.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor, nn

from ..errors import AdapterError
from .fused import fused_branch, why_plain
from .mixer import AnyMixer

if TYPE_CHECKING:
    _Layer = LoraLayer
else:
    _Layer = object


class MixedLayer(_Layer):
    """What a class of PEFT's LoRA layers becomes when a mixer joins it; nothing is added to its parameters."""

    lora_AB: nn.ModuleDict
    fused = False
    """Whether one adapter alone is computed as one function (branch.py) where that can be done."""
    # delete_adapter goes through this list; peft up to 0.18 forgets variants.
    other_param_names = (*LoraLayer.other_param_names, "lora_variant")

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The frozen layer's output and what the active adapters add to it; (..., d1) -> (..., d2)."""
        if not self.fused or why_plain(self, x, args, kwargs):
            return super().forward(x, *args, **kwargs)  # type: ignore[misc]
        return fused_branch(self, x)

    def update_layer(self, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """PEFT's update_layer, for an adapter that has no mixer.

        Raises:
            AdapterError: the adapter has one, which would stay and no longer fit the new A and B.
        """
        if adapter_name in self.lora_AB:
            raise AdapterError(f"A and B of adapter {adapter_name!r} cannot be made anew without its mixer")
        super().update_layer(adapter_name, *args, **kwargs)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return s B M A, (d2, d1); (d1, d2) where the base keeps its weight that way round."""
        with folded(self, [adapter]):
            return super().get_delta_weight(adapter)  # type: ignore[misc]

    def _mixed_batch_forward(self, x: Tensor, *args: Any, adapter_names: list[str], **kwargs: Any) -> Tensor:
        """Each row through the adapter that is named for it; peft 0.17 would leave the variants out."""
        plain = ["__base__" if name in self.lora_AB else name for name in adapter_names]
        result = super()._mixed_batch_forward(x, *args, adapter_names=plain, **kwargs)
        for adapter in sorted(set(adapter_names) & set(self.lora_AB)):
            rows = [row for row, name in enumerate(adapter_names) if name == adapter]
            inputs = x[rows].to(self.lora_A[adapter].weight.dtype)  # type: ignore[arg-type]
            mixed = self.lora_variant[adapter].forward(self, active_adapter=adapter, x=inputs, result=result[rows])
            result[rows] = mixed.to(result.dtype)
        return result


class MixedLinear(MixedLayer, Linear):
    """lora.Linear (over nn.Linear or transformers' Conv1D) with a mixer in one adapter at least."""


class FoldedLinear(nn.Module):
    """B M in the place of B, (d2, r), in B's dtype; differentiable."""

    def __init__(self, lora_b: nn.Linear, mixer: AnyMixer) -> None:
        super().__init__()
        exact = torch.promote_types(lora_b.weight.dtype, torch.float32)
        product = lora_b.weight.to(exact) @ mixer.matrix(exact, lora_b.weight.device)
        self.weight = product.to(lora_b.weight.dtype)
        self.bias = lora_b.bias

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.weight, self.bias)


@contextmanager
def folded(module: nn.Module | MixedLayer, adapters: list[str]) -> Iterator[None]:
    """Show each of these adapters inside `module` as the plain LoRA that computes the same: B' = B M."""
    taken = []
    for layer in module.modules():  # type: ignore[union-attr]
        for name in adapters:
            if isinstance(layer, MixedLayer) and name in layer.lora_AB:
                taken.append((layer, name, layer.lora_B[name], layer.lora_AB.pop(name), layer.lora_variant.pop(name)))
    try:
        for layer, name, lora_b, mixer, _ in taken:
            layer.lora_B[name] = FoldedLinear(lora_b, mixer)  # type: ignore[arg-type]
        yield
    finally:
        for layer, name, lora_b, mixer, variant in taken:
            layer.lora_B[name], layer.lora_AB[name], layer.lora_variant[name] = lora_b, mixer, variant


def has_mixer(module: nn.Module, adapter_name: str | None = None) -> bool:
    """Tell whether any layer inside `module` has a mixer, in this adapter or in any."""
    mixed = [layer.lora_AB for layer in module.modules() if isinstance(layer, MixedLayer)]
    return any(mixers and (adapter_name is None or adapter_name in mixers) for mixers in mixed)
