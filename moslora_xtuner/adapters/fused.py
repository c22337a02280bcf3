"""When an adapter is computed as one function, and how; everything else goes PEFT's own way."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .branch import LowRankBranch, Mixing, cheapest
from .mixer import ButterflyMixer, LearnedMixer
from .variant import MixedVariant

if TYPE_CHECKING:
    from .layer import MixedLayer

_told: set[str] = set()


def why_plain(layer: MixedLayer, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What keeps this call from being fused, told once in a process; None when nothing does.

    No adapter at work (none here, disabled, merged) is nothing to tell, and the plain way is the shortest then.
    """
    if torch.compiler.is_compiling():
        return "torch.compile"  # it fuses by itself, and cannot look into what is told
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if layer.disable_adapters or layer.merged or not active:
        return "no adapter"
    reason = _reason(layer, active, x, args, kwargs)
    if reason is not None and reason not in _told:
        _told.add(reason)
        warnings.warn(f"adapters stay in separate operations where there is {reason}", stacklevel=4)
    return reason


def _reason(
    layer: MixedLayer, active: list[str], x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    if kwargs.get("adapter_names") is not None:
        return "another adapter for each row of a batch"
    if args or any(value is not None for value in kwargs.values()):
        return "an argument beside the input"
    if len(active) > 1:
        return "more than one active adapter"
    name = active[0]
    variant = layer.lora_variant.get(name)
    if variant is not None and type(variant) is not MixedVariant:
        return f"{type(variant).__name__}"
    a, b = layer.lora_A[name], layer.lora_B[name]
    if type(a) is not nn.Linear or type(b) is not nn.Linear or b.bias is not None:
        return "a factor that is more than a matrix (lora_bias, or quantised)"
    if any(_hooked(module) for module in _parts(layer, name)):
        return "a hook on a factor"
    if torch._C._are_functorch_transforms_active():
        return "a transform of torch.func"
    if x.dim() < 2:
        return "an input without rows"
    if getattr(layer.lora_dropout[name], "p", 0) == 1:
        return "a dropout of everything"
    if x.device.type not in ("cpu", "cuda"):
        return f"a device of the kind {x.device.type}"
    return None


def _parts(layer: MixedLayer, name: str) -> list[nn.Module]:
    held = (layer.lora_A, layer.lora_AB, layer.lora_B, layer.lora_dropout)
    return [parts[name] for parts in held if name in parts]


def _hooked(module: nn.Module) -> bool:
    """Whether calling it does more than its forward; DeepSpeed's ZeRO-3 also brings a weight when it is read."""
    if any(hasattr(weight, "ds_id") for weight in module.parameters()):
        return False
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or hasattr(module, "_hf_hook")
    )


def fused_branch(layer: MixedLayer, x: Tensor) -> Tensor:
    """The frozen layer's output with its one active adapter added; (..., d1) -> (..., d2)."""
    result = layer.base_layer(x)
    name = next(name for name in layer.active_adapters if name in layer.lora_A)
    a: Any = layer.lora_A[name].weight
    b: Any = layer.lora_B[name].weight
    m: Any = None
    mixing = Mixing.NONE
    mixer = layer.lora_AB[name] if name in layer.lora_AB else None  # noqa: SIM401  (ModuleDict has no get)
    if isinstance(mixer, ButterflyMixer):
        mixing = Mixing.HALVES
    elif isinstance(mixer, LearnedMixer):
        m, mixing = mixer.weight, cheapest(x.numel() // x.shape[-1], a.shape[1], b.shape[0])
    drop = layer.lora_dropout[name]
    probability = float(drop.p) if isinstance(drop, nn.Dropout) and drop.training else 0.0
    return LowRankBranch.apply(result, x, a, m, b, layer.scaling[name], probability, mixing, _is_own(layer, result))


def _is_own(layer: MixedLayer, result: Tensor) -> bool:
    """Whether nobody else can hold the frozen layer's output: a product without bias, no view, seen by no hook."""
    base = layer.base_layer
    alone = result._base is None and result.is_contiguous()
    return type(base) is nn.Linear and base.bias is None and not base._forward_hooks and alone
