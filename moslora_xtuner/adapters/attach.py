"""A mixer joins an adapter of one of PEFT's layers, and leaves it."""

from __future__ import annotations

from peft.tuners.lora import Linear, LoraLayer
from torch import nn

from ..errors import AdapterError
from .layer import MixedLayer, MixedLinear
from .mixer import AnyMixer
from .variant import MixedDoraVariant, MixedVariant


def attach_mixer(layer: LoraLayer, adapter_name: str, mixer: AnyMixer) -> None:
    """Put `mixer` between A and B of one adapter of one of PEFT's layers, which becomes a MixedLayer.

    Raises:
        AdapterError: PEFT has no variants for this kind of layer.
    """
    if not isinstance(layer, MixedLayer):
        # From now on the same class with two methods more: it may hold plain adapters already, and be held by others.
        layer.__class__ = _mixed_class(layer)
    dora = adapter_name in layer.lora_variant
    variant = MixedDoraVariant() if dora else MixedVariant()
    MixedVariant.init(layer, adapter_name, mixer=mixer)
    layer.lora_variant[adapter_name] = variant


def detach_mixer(layer: nn.Module, adapter_name: str) -> None:
    """Take the mixer of this adapter out of this layer, if there is one; the adapter is then to be made anew."""
    if isinstance(layer, MixedLayer) and adapter_name in layer.lora_AB:
        del layer.lora_AB[adapter_name], layer.lora_variant[adapter_name]


def _mixed_class(layer: LoraLayer) -> type[MixedLayer]:
    if type(layer) is Linear:
        return MixedLinear
    from .quantised import MIXED_CLASSES

    if type(layer) not in MIXED_CLASSES:
        raise AdapterError(f"{type(layer).__name__} cannot have a mixer: leave this layer out of target_modules")
    return MIXED_CLASSES[type(layer)]
