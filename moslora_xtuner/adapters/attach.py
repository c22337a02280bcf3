"""A mixer joins an adapter of one of PEFT's layers, and leaves it."""

from __future__ import annotations

from typing import cast

from peft.tuners.lora import Linear, LoraLayer
from torch import nn

from ..errors import AdapterError
from .four_bit import compute_as_in_training
from .layer import MixedLayer, MixedLinear
from .mixer import AnyMixer
from .variant import MixedDoraVariant, MixedVariant


def attach_mixer(layer: LoraLayer, adapter_name: str, mixer: AnyMixer) -> None:
    """Put `mixer` between A and B of one adapter of one of PEFT's layers, which becomes a MixedLayer.

    Raises:
        AdapterError: PEFT has no variants for this kind of layer.
    """
    _make_mixed(layer)
    dora = adapter_name in layer.lora_variant
    variant = MixedDoraVariant() if dora else MixedVariant()
    MixedVariant.init(layer, adapter_name, mixer=mixer)
    layer.lora_variant[adapter_name] = variant


def detach_mixer(layer: nn.Module, adapter_name: str) -> None:
    """Take the mixer of this adapter out of this layer, if there is one; the adapter is then to be made anew."""
    if isinstance(layer, MixedLayer) and adapter_name in layer.lora_AB:
        del layer.lora_AB[adapter_name], layer.lora_variant[adapter_name]


def fuse(model: nn.Module, on: bool = True) -> int:
    """Compute every adapter inside `model`, plain LoRA too, as one function that keeps less for backward (branch.py).

    The function's value and gradients are the same up to rounding, with the same dropout. What it cannot do (DoRA,
    several adapters at once, a batch with an adapter for each row) goes PEFT's own way, which is told once.

    Args:
        model: with adapters in it; adapters that are added to the same layers later are computed so too.
        on: False puts all back to PEFT's own way.

    Returns:
        How many layers are computed so now.
    """
    count = 0
    for layer in model.modules():
        if isinstance(layer, MixedLayer) or (on and isinstance(layer, LoraLayer) and _mixed_class(layer)):
            _make_mixed(layer).fused = on
            count += on
    return count


def _make_mixed(layer: LoraLayer) -> MixedLayer:
    if not isinstance(layer, MixedLayer):
        kind = _mixed_class(layer)
        if kind is None:
            raise AdapterError(f"{type(layer).__name__} cannot have a mixer: leave this layer out of target_modules")
        compute_as_in_training(cast(nn.Module, layer))
        # From now on the same class with more methods: it may hold plain adapters already, and be held by others.
        layer.__class__ = kind
    assert isinstance(layer, MixedLayer)
    if not hasattr(layer, "lora_AB"):
        layer.lora_AB = nn.ModuleDict()
    return layer


def _mixed_class(layer: LoraLayer) -> type[MixedLayer] | None:
    """What the layer's class becomes with a mixer; None for a kind that cannot have one."""
    if type(layer) is Linear:
        return MixedLinear
    from .quantised import MIXED_CLASSES

    return MIXED_CLASSES.get(type(layer))
