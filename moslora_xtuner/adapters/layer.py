"""What becomes of a LoRA layer's `lora_B`: a Linear that mixes before it projects.

    x ---> A ---> M ---> B ---> * s ---> + <--- W0 <--- x
         lora_A  lora_AB lora_B

PEFT's layers call `lora_B(lora_A(x))` in forward and read `lora_B.weight` when they merge. Swapping the
class of `lora_B` puts M into both places, in every kind of layer (Linear, 4-bit, 8-bit, DoRA), without
copying a line of them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ..errors import AdapterError
from .mixer import AnyMixer

_MIXER = "_mixer"


class MixedLinear(nn.Linear):
    """B behind a mixer: h -> B (M h), for h: (..., r) -> (..., d2).

    `_parameters["weight"]` is B itself, (d2, r): what the optimiser, state_dict and loading see.
    `weight` reads as B M, (d2, r): what merging sees. The two are equal only if M = I.
    """

    @property
    def factor(self) -> nn.Parameter:
        """B itself, (d2, r)."""
        return self._parameters["weight"]  # type: ignore[return-value]

    @property
    def mixer(self) -> AnyMixer:
        """M. Owned by the layer's `lora_AB`, so that it is saved under the authors' name and only once."""
        # Straight from __dict__: an AttributeError inside `weight` would make nn.Module return B for it.
        return self.__dict__[_MIXER]

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """B M, (d2, r), in B's dtype; differentiable. Writing into it changes nothing."""
        factor = self.factor
        exact = torch.promote_types(factor.dtype, torch.float32)
        return (factor.to(exact) @ self.mixer.matrix(exact, factor.device)).to(factor.dtype)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            # nn.Module would first ask hasattr(self, "weight"), which multiplies B and M in the middle of
            # load_state_dict(assign=True), when one of them may still be on the meta device.
            if not isinstance(value, nn.Parameter):
                raise AdapterError("lora_B.weight reads as B M here: assign a Parameter, which is B")
            self._parameters["weight"] = value
        else:
            super().__setattr__(name, value)

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(self.mixer(hidden), self.factor, self.bias)


def attach_mixer(layer: LoraLayer, adapter_name: str, mixer: AnyMixer) -> None:
    """Put `mixer` between A and B of one adapter of one LoRA layer.

    Raises:
        AdapterError: the adapter's `lora_B` is not the plain Linear that this method can mix.
    """
    lora_b = dict(layer.lora_B.items()).get(adapter_name)
    if type(lora_b) is not nn.Linear:
        raise AdapterError(
            f"{type(layer).__name__}: lora_B[{adapter_name!r}] is {type(lora_b).__name__}, not a Linear, and "
            "cannot have a mixer: leave this layer out of target_modules"
        )
    if not hasattr(layer, "lora_AB"):
        layer.lora_AB = nn.ModuleDict()  # type: ignore[attr-defined]
    if "lora_AB" not in layer.adapter_layer_names:
        # set_adapter, delete_adapter and moves between devices go through this list.
        layer.adapter_layer_names = (*layer.adapter_layer_names, "lora_AB")
    mixer.requires_grad_(lora_b.weight.requires_grad)
    mixers: nn.ModuleDict = layer.lora_AB  # type: ignore[attr-defined]
    mixers[adapter_name] = mixer
    lora_b.__class__ = MixedLinear
    lora_b.__dict__[_MIXER] = mixer


def has_mixer(module: nn.Module) -> bool:
    """Tell whether any layer inside `module` has a mixer."""
    return any(isinstance(child, MixedLinear) for child in module.modules())
