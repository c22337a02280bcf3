"""Tools of PEFT that take A and B of a model to be all there is: they are right for a mixed adapter, or refuse it.

The function objects are guarded, not their names: `from peft.utils.hotswap import hotswap_adapter` before this
package is as safe as after it. For models without mixers the functions do what they did.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

from peft.tuners.lora import LoraModel

from ..errors import AdapterError
from .config import MosLoraConfig
from .layer import MixedLayer, has_mixer
from .model import MosLoraModel

_Check = Callable[..., None]


def _guarded(*args: Any, _check: _Check, _stock: Callable[..., Any], **kwargs: Any) -> Any:
    # The code of every guarded function: without globals or closure, so that it runs in any module.
    _check(*args, **kwargs)
    return _stock(*args, **kwargs)


def guard(function: Callable[..., Any], check: _Check) -> None:
    """Let `check` see each call's arguments before `function`, whatever name it is called by."""
    function = inspect.unwrap(function)  # what torch.no_grad and the like call
    assert isinstance(function, FunctionType)
    if function.__code__ is _guarded.__code__:
        return
    stock = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    stock.__kwdefaults__, stock.__annotations__ = function.__kwdefaults__, function.__annotations__
    function.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
    function.__defaults__ = None
    function.__kwdefaults__ = {"_check": check, "_stock": stock}
    function.__code__ = _guarded.__code__


def _no_stock_tuner(tuner: Any, lora_config: Any, adapter_name: str, *_: Any, **__: Any) -> None:
    if isinstance(lora_config, MosLoraConfig) and not isinstance(tuner, MosLoraModel):
        raise AdapterError(
            f"adapter {adapter_name!r} has a mixer, and the tuner that is building it (a mixed model, X-LoRA or "
            f"LoraModel itself) would drop it: use get_peft_model(model, config), or fold the adapter first"
        )


def _no_active_mixer(what: str) -> _Check:
    def check(model: Any, *_: Any, **__: Any) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, MixedLayer)]
        if any(set(layer.active_adapters) & set(layer.lora_AB) for layer in layers):
            raise AdapterError(f"{what}, without the mixer between them: use another optimiser")

    return check


def _no_mixer(what: str) -> _Check:
    def check(model: Any, *_: Any, **__: Any) -> None:
        if has_mixer(model):
            raise AdapterError(f"{what}: fold the adapter into a plain LoRA first")

    return check


def _no_reduced_mixer(peft_model: Any, old_adapter_name: str = "default", *_: Any, **__: Any) -> None:
    if has_mixer(peft_model, old_adapter_name):
        raise AdapterError(
            f"reduce_intruder_dimension would put A and B of its own beside a mixer of adapter {old_adapter_name!r}: "
            "fold the adapter into a plain LoRA first"
        )


def _same_function(model: Any, state_dict: Any, adapter_name: str, config: Any = None, *_: Any, **__: Any) -> None:
    """Hot-swapping changes tensors by name, and the scaling; the kind and the size of the mixer stay as they are."""
    old = getattr(model, "peft_config", {}).get(adapter_name)
    if not has_mixer(model, adapter_name) and not isinstance(config, MosLoraConfig):
        return
    if config is None and isinstance(old, MosLoraConfig) and old.mixer == "learned":
        config = old
        # The names of the tensors tell the rest.
    if _kind(old) != _kind(config):
        raise AdapterError(
            f"hot-swapping keeps the mixer and rank of adapter {adapter_name!r} ({_kind(old)}), and the new weights "
            f"are for {_kind(config)}: load them under a new name with load_adapter"
        )


def _kind(config: Any) -> str:
    mixer = config.mixer if isinstance(config, MosLoraConfig) else "identity"
    if mixer == "identity":
        return "no mixer"
    ranks = {"r": config.r, **config.rank_pattern}
    return f"mixer={mixer!r}, " + ", ".join(f"{name}={rank}" for name, rank in sorted(ranks.items()))


_TOOLS: tuple[tuple[str, str, _Check], ...] = (
    ("peft.utils.hotswap", "hotswap_adapter_from_state_dict", _same_function),
    (
        "peft.utils.hotswap",
        "prepare_model_for_compiled_hotswap",
        _no_mixer("preparing a model for compiled hot-swapping pads A and B, but no mixer"),
    ),
    (
        "peft.utils.loftq_utils",
        "replace_lora_weights_loftq",
        _no_mixer("replace_lora_weights_loftq sets A and B so that B A, not B M A, makes up for the quantisation"),
    ),
    ("peft.optimizers.lorafa", "create_lorafa_optimizer", _no_active_mixer("LoRA-FA projects B's gradient by A alone")),
    (
        "peft.optimizers.riemannian",
        "create_riemannian_optimizer",
        _no_active_mixer("the Riemannian optimiser preconditions A by B and B by A"),
    ),
    ("peft.tuners.lora.intruders", "reduce_intruder_dimension", _no_reduced_mixer),
)


def guard_stock() -> None:
    """Put the guards up; those of functions that the installed PEFT does not have are left out."""
    guard(LoraModel._create_and_replace, _no_stock_tuner)
    for module, name, check in _TOOLS:
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
        guard(function, check)
