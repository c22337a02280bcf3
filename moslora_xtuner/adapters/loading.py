"""What is checked when adapter weights come in, because PEFT loads with strict=False.

Under strict=False a mixer that finds no layer is dropped without a word, and a layer whose mixer is
missing keeps its random start: either way the model computes another function than the one trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..errors import AdapterError

_ADAPTER_KEY = re.compile(r"\.lora_(?:A|B|AB)\.(?P<adapter>.+)\.(?:weight|bias)$")


def check_incoming(model: nn.Module, state_dict: Mapping[str, Any], prefix: str) -> None:
    """Compare the adapter tensors under `prefix` with those of `model`, before any is copied.

    An adapter is checked when it has a mixer, in the model or in `state_dict`; others are PEFT's affair.

    Raises:
        AdapterError: names or shapes differ; lists them.
    """
    incoming = _by_adapter({k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)})
    own = _by_adapter({**dict(model.named_parameters()), **dict(model.named_buffers())})
    for adapter, tensors in incoming.items():
        expected = own.get(adapter, {})
        if not any(".lora_AB." in name for name in (*tensors, *expected)):
            continue
        problems = [f"no place for {name}" for name in tensors if name not in expected]
        problems += [f"missing {name}" for name in expected if name not in tensors]
        for name in tensors.keys() & expected.keys():
            shape, place = tuple(tensors[name].shape), expected[name]
            # A parameter that ZeRO-3 has partitioned shows no shape of its own.
            if shape != tuple(place.shape) and not hasattr(place, "ds_id"):
                problems.append(f"{name} is {shape}, not {tuple(place.shape)}")
        if problems:
            raise AdapterError(_message(adapter, problems))


def _by_adapter(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    grouped: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        found = _ADAPTER_KEY.search(name)
        if found:
            grouped.setdefault(found["adapter"], {})[name] = tensor
    return grouped


def _message(adapter: str, problems: list[str]) -> str:
    shown = "; ".join(problems[:12])
    rest = f"; and {len(problems) - 12} more" if len(problems) > 12 else ""
    return (
        f"the weights of adapter {adapter!r} do not fit the model, and nothing was loaded: {shown}{rest}. "
        "Check the base model, the rank, target_modules and the mixer of the config they are loaded into"
    )
