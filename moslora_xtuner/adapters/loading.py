"""What is checked when adapter weights come in, because PEFT loads with strict=False.

Under strict=False a mixer that finds no layer is dropped without a word, and a layer whose mixer is
missing keeps its random start: either way the model computes another function than the one trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from torch import nn

from ..errors import AdapterError
from .config import DISK_TYPE
from .disk import read_config, read_shapes

_STORED_KEY = re.compile(r"^(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<part>A|B|AB)\.weight$")
_ADAPTER_KEY = re.compile(r"\.lora_(?:A|B|AB)\.(?P<adapter>.+)\.(?:weight|bias)$")


def check_incoming(model: nn.Module, state_dict: Mapping[str, Any], prefix: str) -> None:
    """Compare the adapter tensors under `prefix` with those of `model`, before any is copied.

    An adapter is checked when it has a mixer, in the model or in `state_dict`; others are PEFT's affair.

    Raises:
        AdapterError: names or shapes differ; lists them.
    """
    below = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    # peft 0.21 gives the adapter's name only to keys that have a place, so a mixer too many arrives without one.
    if left_over := [f"no place for {name}" for name in below if name.endswith(".lora_AB.weight")]:
        raise AdapterError(_message(left_over))
    own = _by_adapter({**dict(model.named_parameters()), **dict(model.named_buffers())})
    for adapter, tensors in _by_adapter(below).items():
        expected = own.get(adapter, {})
        if not any(".lora_AB." in name for name in (*tensors, *expected)):
            continue
        problems = [f"no place for {name}" for name in tensors if name not in expected]
        problems += [f"missing {name}" for name in expected if name not in tensors]
        for name, place in expected.items():
            shape = tuple(tensors[name].shape) if name in tensors else tuple(place.shape)
            # A parameter that ZeRO-3 has partitioned shows no shape of its own.
            if shape != tuple(place.shape) and not hasattr(place, "ds_id"):
                problems.append(f"{name} is {shape}, not {tuple(place.shape)}")
        if problems:
            raise AdapterError(_message(problems, adapter))


def check_directory(model: nn.Module, adapter_dir: Path) -> None:
    """Compare an adapter's directory with the model that it is to be loaded into, before a layer is made.

    `model` is the base model, adapted already or not. Directories of other kinds than ours are PEFT's affair.

    Raises:
        AdapterError: layers, widths or ranks differ; lists them.
    """
    if read_config(adapter_dir).get("peft_type") != DISK_TYPE:
        return
    config = PeftConfig.from_pretrained(str(adapter_dir))
    modules = {name: m.get_base_layer() if isinstance(m, BaseTunerLayer) else m for name, m in model.named_modules()}
    stored: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in read_shapes(adapter_dir).items():
        if found := _STORED_KEY.match(name):
            stored.setdefault(found["layer"], {})[found["part"]] = shape
    problems = []
    for layer, shapes in stored.items():
        if layer not in modules:
            problems.append(f"the model has no layer {layer}")
            continue
        problems += _misfits(layer, shapes, modules[layer], _rank(config, layer))
    problems += [f"no weights for {layer}" for layer in _targeted(model, config) if layer not in stored]
    if problems:
        raise AdapterError(
            f"{adapter_dir} does not fit this {type(model).__name__}, and nothing was changed: {_some(problems)}. "
            "Check the base model, and the rank and the target_modules in the directory's adapter_config.json"
        )


def _targeted(model: nn.Module, config: Any) -> list[str]:
    """The layers that the config would adapt, where it names them."""
    if config.target_modules in (None, "all-linear"):
        return []
    inside = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, BaseTunerLayer))
    names = [name for name, _ in model.named_modules() if name and not name.startswith(inside)]
    return [name for name in names if check_target_module_exists(config, name)]


def _misfits(layer: str, shapes: Mapping[str, tuple[int, ...]], base: nn.Module, r: int) -> list[str]:
    width, height = getattr(base, "in_features", None), getattr(base, "out_features", None)
    places = {"A": (r, width), "AB": (r, r), "B": (height, r)}
    if width is None or height is None:
        return [f"{layer} is {type(base).__name__}, not a Linear"]
    return [f"{layer}.lora_{p} is {s}, not {places[p]}" for p, s in shapes.items() if s != places[p]]


def _rank(config: Any, layer: str) -> int:
    """The rank of a layer: that of the first pattern that its name ends with (PEFT's rule), or r."""
    patterns = config.rank_pattern.items()
    return int(next((rank for pattern, rank in patterns if re.match(rf"(.*\.)?({pattern})$", layer)), config.r))


def _by_adapter(tensors: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    grouped: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        found = _ADAPTER_KEY.search(name)
        if found:
            grouped.setdefault(found["adapter"], {})[name] = tensor
    return grouped


def _message(problems: list[str], adapter: str | None = None) -> str:
    what = "adapter weights" if adapter is None else f"the weights of adapter {adapter!r}"
    return (
        f"{what} do not fit the model, and nothing was loaded: {_some(problems)}. "
        "Check the base model, the rank, target_modules and the mixer of the config they are loaded into"
    )


def _some(problems: list[str]) -> str:
    rest = f"; and {len(problems) - 12} more" if len(problems) > 12 else ""
    return "; ".join(problems[:12]) + rest
