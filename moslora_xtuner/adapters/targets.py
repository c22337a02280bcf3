"""Which layers of a model may have a mixer, told before any of them is wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from transformers.pytorch_utils import Conv1D

from ..errors import AdapterError
from .config import MosLoraConfig


def check_targets(
    tuner: LoraModel, config: MosLoraConfig, model: nn.Module, incoming: Mapping[str, Any] | None = None
) -> list[str]:
    """Check every layer that `config`, or the weights that are `incoming`, would adapt, and return their names.

    Raises:
        AdapterError: one of them is no Linear, or PEFT means parameters of the model instead of layers.
    """
    if parameters := getattr(config, "target_parameters", None):
        # peft from 0.21 on: the experts of a mixture are layers no more in transformers 5.
        raise AdapterError(
            f"in this {type(model).__name__} {', '.join(sorted(parameters))} are parameters and not layers, and a "
            "mixer fits Linear layers: name others in target_modules, of the attention for instance"
        )
    inside = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, BaseTunerLayer))
    named = {name.rsplit(f".{tuner.prefix}", 1)[0] for name in incoming or ()}
    targeted, unfit = [], []
    for name, module in model.named_modules():
        if not name or name.startswith(inside):
            continue
        if name in named if incoming is not None else tuner._check_target_module_exists(config, name):
            targeted.append(name)
            base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
            if not _fits(base, config):
                unfit.append(f"{name} ({type(base).__name__})")
    if unfit:
        raise AdapterError(
            "a mixer fits Linear layers (also quantised ones, and Conv1D of transformers), and target_modules "
            f"matches others: {', '.join(unfit)}; name the Linear layers inside them"
        )
    return targeted


def _fits(base: nn.Module, config: MosLoraConfig) -> bool:
    if not isinstance(base, nn.Linear | Conv1D) or isinstance(base, NonDynamicallyQuantizableLinear):
        return False
    return not isinstance(base, tuple(config._custom_modules or ()))  # the user's own LoRA layer knows no mixers
