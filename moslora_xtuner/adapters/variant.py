"""What stands between A and B, told to PEFT in its own words: a LoraVariant.

    x ---> dropout ---> A ---> M ---> B ---> * s ---> + <--- W0 <--- x
                      lora_A lora_AB lora_B

PEFT's layers (Linear, 4-bit, 8-bit) ask `lora_variant[adapter]` wherever they would compute s B(A x) or add
s B A to W0. `lora_B` stays the Linear that holds B, so whoever reads a weight and writes it back is right.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear, LoraLayer, LoraVariant
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn


class MixedVariant(LoraVariant):
    """y = x W0^T + s B(M(A x)), and W0 + s B M A merged; (..., d1) -> (..., d2)."""

    @staticmethod
    def init(module: Any, adapter_name: str, *, mixer: nn.Module, **_: Any) -> None:  # type: ignore[override]
        """Put `mixer` between A and B."""
        if "lora_AB" not in module.adapter_layer_names:
            # set_adapter, delete_adapter and moves between devices go through this list.
            module.adapter_layer_names = (*module.adapter_layer_names, "lora_AB")
        mixer.requires_grad_(module.lora_B[adapter_name].weight.requires_grad)
        module.lora_AB[adapter_name] = mixer

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        hidden = module.lora_A[active_adapter](module.lora_dropout[active_adapter](x))
        hidden = module.lora_AB[active_adapter](hidden)
        added = module.lora_B[active_adapter](hidden) * module.scaling[active_adapter]
        if not isinstance(module, Linear) and not torch.is_autocast_enabled():
            # PEFT's quantised layers round to the base's dtype before they add, its Linear after.
            added = added.to(result.dtype)
        return result + added

    @staticmethod
    def merge_safe(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        return _plus(module, orig_weight, module.get_delta_weight(active_adapter))

    @staticmethod
    def merge_unsafe(module: Any, active_adapter: str, orig_weight: Tensor) -> None:
        orig_weight.data += module.get_delta_weight(active_adapter)

    @staticmethod
    def unmerge(module: Any, active_adapter: str, orig_weight: Tensor) -> Tensor:
        return _plus(module, orig_weight.data, -module.get_delta_weight(active_adapter))


class MixedDoraVariant(DoraLinearVariant):
    """DoRA (Liu et al. 2024, equation 5) whose direction is W0 + s B M A.

    Merging is DoRA's own: it takes the delta from the layer's get_delta_weight, which is s B M A.
    """

    @staticmethod
    def forward(module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any) -> Tensor:
        mixed: Any = _MixedView(module, active_adapter)
        return DoraLinearVariant.forward(mixed, active_adapter=active_adapter, x=x, result=result, **kwargs)


class _MixedView:
    """A layer as DoRA's forward reads it, but for lora_B, which is h -> B(M h)."""

    def __init__(self, module: Any, adapter_name: str) -> None:
        self._module = module
        mixer, lora_b = module.lora_AB[adapter_name], module.lora_B[adapter_name]
        self.lora_B = {adapter_name: lambda hidden: lora_b(mixer(hidden))}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _plus(module: LoraLayer, weight: Tensor, delta: Tensor) -> Tensor:
    """W0 + delta, rounded where PEFT's own layers round: Linear keeps the dtype of W0, the others delta's."""
    dtype = weight.dtype if isinstance(module, Linear) else delta.dtype
    return weight.to(delta.device, dtype) + delta.to(dtype)
