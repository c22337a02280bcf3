"""What an adapter's file may hold, and whether it is all there: each tensor is of a known kind or a problem.

Nothing of a model is needed: the config says which tensors belong to a layer, of which rank, and which others
(biases, modules saved whole, trained tokens) may stand beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from peft.utils.other import get_pattern_key
from torch import Tensor, nn

PREFIX = "base_model.model."
"""Before the layer's own name in every key that PEFT writes."""
_KEY = re.compile(
    r"(?P<layer>.+?)\.lora_(?P<part>A|AB|B|embedding_A|embedding_B|magnitude_vector)"
    r"(?:\.(?P<adapter>[^.]+(?:\.[^.]+)*?))??(?:\.(?P<tail>weight|bias))?"
)
_FIRST, _SECOND = ("A", "embedding_A"), ("B", "embedding_B")


@dataclass
class Layer:
    """The tensors of one adapted layer, by part: A, B, AB, embedding_A, embedding_B, magnitude_vector, B.bias."""

    parts: dict[str, Tensor] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


@dataclass
class Contents:
    """A state dict taken apart: adapted layers by name, all other tensors by key, and what is wrong with the keys."""

    layers: dict[str, Layer]
    others: dict[str, Tensor]
    problems: list[str]
    adapters: set[str | None] = field(default_factory=set)
    """The adapters' names that the keys hold; None where they hold none, as PEFT saves them."""


def take_apart(tensors: Mapping[str, Tensor]) -> Contents:
    """Sort an adapter's tensors by layer; keys may hold the adapter's name, the same in all."""
    contents = Contents({}, {}, [])
    names = contents.adapters
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            contents.others[key] = tensor
            continue
        part = found["part"] + (".bias" if found["tail"] == "bias" else "")
        names.add(found["adapter"])
        layer = contents.layers.setdefault(found["layer"].removeprefix(PREFIX), Layer())
        if part in layer.parts:
            contents.problems.append(f"{key} and {layer.keys[part]} are the same tensor twice")
        layer.parts[part], layer.keys[part] = tensor, key
    if len(names) > 1:
        shown = ", ".join(sorted(repr(name) if name else "none" for name in names))
        contents.problems.append(f"the keys hold the names of several adapters ({shown})")
    return contents


def content_problems(config: Mapping[str, Any], contents: Contents) -> list[str]:
    """Name all that keeps these tensors from being, whole, the adapter that `config` describes."""
    problems = [*contents.problems]
    if not contents.layers:
        problems.append("it holds no adapter weights")
    for name, layer in contents.layers.items():
        problems += _layer_problems(config, name, layer)
    problems += _untargeted(config, contents.layers)
    return problems + _other_problems(config, contents.others)


def not_finite(tensor: Tensor) -> str | None:
    """Say what `tensor` is when it is no finite floating-point tensor."""
    if not tensor.is_floating_point():
        return f"is {str(tensor.dtype).removeprefix('torch.')}, not floating-point"
    if not tensor.numel():
        return "is empty"
    if hasattr(tensor, "to_local"):  # a DTensor: what this process holds of it
        tensor = tensor.to_local()
    if type(tensor) not in (Tensor, nn.Parameter):
        return None  # quantised after it was checked: its class need not know a sum
    exact = tensor.detach() if tensor.dtype.itemsize > 1 else tensor.detach().float()
    # A sum is finite if all its terms are, and read at the speed of memory; it may overflow, so then they are asked.
    if bool(torch.isfinite(exact.sum())) or bool(torch.isfinite(exact).all()):
        return None
    return "is not finite"


def mixing_problems(name: str, layer: Layer, mixer: str) -> list[str]:
    """Name what keeps a layer's B and mixer from being multiplied."""
    wanted = {"A", "B", "AB"} if mixer == "learned" else {"A", "B"}
    problems = [f"{name} has no {_spoken(part)}" for part in sorted(wanted - layer.parts.keys())]
    if mixer != "learned" and "AB" in layer.parts:
        problems.append(f"{layer.keys['AB']} is left over: by its config (mixer={mixer!r}) this adapter has none")
    if problems:
        return problems
    a, b = layer.parts["A"], layer.parts["B"]
    shapes = {"A": tuple(a.shape), "B": tuple(b.shape)}
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        return [f"{name}: {shapes['A']} and {shapes['B']} are no lora_A and lora_B of one rank"]
    r = b.shape[1]
    if mixer == "butterfly" and r % 2:
        return [f"{layer.keys['B']} has the odd rank {r}, which the butterfly cannot halve"]
    if mixer == "learned" and tuple(layer.parts["AB"].shape) != (r, r):
        return [f"{layer.keys['B']} is {shapes['B']} and its mixer {tuple(layer.parts['AB'].shape)}: they do not fit"]
    return [f"{layer.keys[part]} {fault}" for part in sorted(wanted) if (fault := not_finite(layer.parts[part]))]


def some(problems: Sequence[str], most: int = 12) -> str:
    """The first of a list, in one line."""
    rest = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + rest


def layer_rank(config: Mapping[str, Any], name: str) -> int:
    """Return a layer's rank: that of the first pattern that its name ends with (PEFT's rule), or r."""
    ranks: Mapping[str, int] = config.get("rank_pattern") or {}
    return ranks.get(get_pattern_key(list(ranks), name), config.get("r", 8))


def _layer_problems(config: Mapping[str, Any], name: str, layer: Layer) -> list[str]:
    parts, problems = layer.parts, []
    for part, tensor in parts.items():
        if fault := not_finite(tensor):
            problems.append(f"{layer.keys[part]} {fault}")
    embedding = "embedding_A" in parts or "embedding_B" in parts
    first, second = (_FIRST[embedding], _SECOND[embedding])
    wanted = {first, second}
    if config.get("mixer") == "learned":
        wanted.add("AB")
    if config.get("use_dora"):
        wanted.add("magnitude_vector")
    if config.get("lora_bias"):
        wanted.add("B.bias")
    problems += [f"{name} has no {_spoken(part)}" for part in sorted(wanted - parts.keys())]
    problems += [
        f"{layer.keys[part]} is left over: by its config this adapter has none"
        for part in sorted(parts.keys() - wanted)
    ]
    if first in parts and second in parts:
        problems += _rank_problems(config, name, parts[first], parts[second], layer, (first, second))
    return problems


def _spoken(part: str) -> str:
    return {"AB": "mixer (lora_AB)", "B.bias": "bias of lora_B"}.get(part, f"lora_{part}")


def _rank_problems(
    config: Mapping[str, Any], name: str, a: Tensor, b: Tensor, layer: Layer, keys: tuple[str, str]
) -> list[str]:
    if a.ndim < 2 or b.ndim < 2:
        return [f"{layer.keys[keys[0]]} is {tuple(a.shape)} and {layer.keys[keys[1]]} {tuple(b.shape)}: no two factors"]
    # A factor of `target_parameters` holds all experts, one below the other.
    if config.get("target_parameters") and a.shape[0] == b.shape[1]:
        return []
    r = layer_rank(config, name)
    ranks = {keys[0]: a.shape[0], keys[1]: b.shape[1]}
    found = [
        f"{layer.keys[key]} is {tuple(layer.parts[key].shape)}, and the config says rank {r} there"
        for key, rank in ranks.items()
        if rank != r
    ]
    mixer = layer.parts.get("AB")
    if mixer is not None and tuple(mixer.shape) != (r, r):
        found.append(f"{layer.keys['AB']} is {tuple(mixer.shape)}, not {(r, r)}")
    for part in ("magnitude_vector", "B.bias"):
        one = layer.parts.get(part)
        if one is not None and keys[1] == "B" and one.numel() != b.shape[0]:
            found.append(f"{layer.keys[part]} is {tuple(one.shape)} beside {b.shape[0]} rows of lora_B")
    return found


def _untargeted(config: Mapping[str, Any], layers: Iterable[str]) -> list[str]:
    """Layers that stock PEFT would not make from this config, so that their weights would be dropped."""
    targets = config.get("target_modules")
    if targets is None or targets == "all-linear" or config.get("target_parameters"):
        return []
    fields = ("exclude_modules", "modules_to_save", "target_parameters", "layers_to_transform", "layers_pattern")
    asked: Any = SimpleNamespace(target_modules=targets, **{name: config.get(name) for name in fields})
    # Inside a wrapped module (a multi-head attention's out_proj) PEFT makes layers that no target names.
    return [
        f"no entry of target_modules names {name}"
        for name in layers
        if ".base_layer." not in name and not check_target_module_exists(asked, name)
    ]


def _other_problems(config: Mapping[str, Any], others: Mapping[str, Tensor]) -> list[str]:
    saved = config.get("modules_to_save") or ()
    missing, problems = {f"module {name}" for name in saved}, []
    if config.get("trainable_token_indices"):
        missing.add("trained tokens")
    for key, tensor in others.items():
        kind = _other_kind(config, key)
        if kind is None:
            problems.append(f"{key} is no part of this adapter")
            continue
        missing.discard(kind)
        if tensor.is_floating_point() and (fault := not_finite(tensor)):
            problems.append(f"{key} {fault}")
    return problems + [f"the {what} of its config is missing" for what in sorted(missing)]


def _other_kind(config: Mapping[str, Any], key: str) -> str | None:
    name = key.removeprefix(PREFIX)
    above = [name[: dot.start()] for dot in re.finditer(r"\.", name)]
    for module in config.get("modules_to_save") or ():
        # PEFT's rule is the end of the name, so "norm" means input_layernorm too.
        if any(path.endswith(module) for path in above):
            return f"module {module}"
    if config.get("trainable_token_indices") and ("trainable_tokens" in name or "token_adapter" in name):
        return "trained tokens"
    if name.endswith("bias") and config.get("bias", "none") != "none":
        return "bias"
    parts = name.split(".")
    # Saved by PEFT itself when the vocabulary was resized, or with save_embedding_layers=True.
    if parts[-1] == "weight" and any(part in EMBEDDING_LAYER_NAMES for part in parts[-3:-1]):
        return "embedding"
    return None
