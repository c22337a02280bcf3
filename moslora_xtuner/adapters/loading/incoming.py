"""What is checked when adapter weights come in, because PEFT loads with strict=False.

Under strict=False a mixer that finds no layer is dropped without a word, and a layer whose mixer is
missing keeps its random start: either way the model computes another function than the one trained.
The check is a load_state_dict hook of the adapted model, so it holds for whoever loads, and before any weight
is touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.tuners.lora import LoraLayer
from peft.utils.constants import EMBEDDING_LAYER_NAMES
from torch import Tensor, nn

from ...errors import AdapterError
from ..config import MosLoraConfig
from ..directory.contents import not_finite, some

_STRAY_MIXER = re.compile(r"(?P<layer>.+)\.lora_AB(?:\.[^.]+)*\.weight")
_CHECKPOINTED = "_checkpoint_wrapped_module."
"""In the names of modules below torch's checkpoint_wrapper, and not in those of a state dict."""
_NAMELESS = re.compile(r"\.lora_(?:A|B|AB|magnitude_vector)(?:\.weight|\.bias)?$")
_NO_PLACE = "no place for"
ADVICE = "Check the base model, the rank, target_modules and the mixer of the config they are loaded into"


@dataclass
class Whole:
    """A file that is being loaded: of which adapter, and which embeddings of the base it replaces."""

    adapter: str
    replaced: list[str] = field(default_factory=list)


_whole: ContextVar[Whole | None] = ContextVar("whole", default=None)


class MisfitError(AdapterError):
    """What comes in does not fit; `found` says how, without the advice."""

    def __init__(self, problems: list[str]) -> None:
        kinds: dict[bool, list[str]] = {True: [], False: []}
        for problem in dict.fromkeys(problems):
            kinds[problem.startswith(_NO_PLACE)].append(problem)
        # What the file has too much can be hundreds, and hide what it has not.
        self.found = "; ".join(some(kind, 6) for kind in (kinds[False], kinds[True]) if kind)
        super().__init__(f"adapter weights do not fit the model, and nothing was loaded: {self.found}. {ADVICE}")


@contextmanager
def loading_whole(adapter: str) -> Iterator[Whole]:
    """Inside, a state dict that comes in is an adapter's file: all of `adapter` and nothing else."""
    whole = Whole(adapter)
    token = _whole.set(whole)
    try:
        yield whole
    finally:
        _whole.reset(token)


def refuse_unplaced(result: Any) -> Any:
    """Return what load_state_dict returned; inside `loading_whole` nothing may have been without a place.

    Raises:
        MisfitError: a tensor of the file is none of the model's, not even of its adapted part.
    """
    if _whole.get() is not None and result.unexpected_keys:
        raise MisfitError([f"{_NO_PLACE} {name}" for name in result.unexpected_keys])
    return result


def guard(model: nn.Module) -> None:
    """Check every state dict that is loaded into `model` from now on; asking again changes nothing."""
    if all(getattr(known, "hook", None) is not check_incoming for known in model._load_state_dict_pre_hooks.values()):
        model.register_load_state_dict_pre_hook(check_incoming)


def check_incoming(model: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Compare the adapter tensors under `prefix` with those of `model`, before any is copied.

    Checked are the adapters with a MosLoraConfig of which `state_dict` holds anything; others are PEFT's affair,
    but that nobody's mixer is dropped.

    Raises:
        MisfitError: names or shapes differ, or a value is not finite; lists them.
    """
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules()):
        return  # FSDP1 holds slices of flattened tensors, which have no names or shapes to compare
    below = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    configs: Mapping[str, PeftConfig] = getattr(model, "peft_config", {})
    whole = _whole.get()
    places = _places(model)
    everything = {
        name.replace(_CHECKPOINTED, "")
        for names in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
        for name, _ in names
    }
    # peft 0.21 gives the adapter's name only to keys that have a place, so what is too much arrives without one.
    all_mixed = bool(configs) and all(isinstance(config, MosLoraConfig) for config in configs.values())
    strays = [name for name in below if name not in everything and (all_mixed or _is_mixer(name, below))]
    problems = [f"{_NO_PLACE} {name}" for name in strays if _NAMELESS.search(name) or _is_mixer(name, below)]
    for adapter, config in configs.items():
        if not isinstance(config, MosLoraConfig):
            continue
        expected = places.get(adapter, {})
        mine = re.compile(rf"\.lora_\w+\.{re.escape(adapter)}(?:\.|$)")
        tensors = {name: value for name, value in below.items() if name in expected or mine.search(name)}
        its_file = whole is not None and whole.adapter == adapter
        if not tensors and not its_file:
            continue
        problems += [f"missing {name}" for name in expected if name not in tensors]
        problems += [f"{_NO_PLACE} {name}" for name in tensors if name not in expected]
        for name, value in tensors.items():
            problems += _misfit(name, value, expected.get(name))
        if whole is not None and its_file:
            others = [name for name in below if name not in tensors and not _is_trained_beside(name, config)]
            problems += [f"{_NO_PLACE} {name}" for name in others if name not in everything]
            bases = [name for name in others if name in everything]
            # PEFT saves the embeddings itself when the vocabulary was resized.
            whole.replaced += [name for name in bases if _is_embedding(name)]
            problems += [f"{name} would replace a weight of the base" for name in bases if not _is_embedding(name)]
    if problems:
        raise MisfitError(problems)


def _places(model: nn.Module) -> dict[str, dict[str, Tensor]]:
    """The tensors of every adapter in the LoRA layers of `model`, by adapter, then by name in the state dict."""
    places: dict[str, dict[str, Tensor]] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        name = name.replace(_CHECKPOINTED, "")
        for part in layer.adapter_layer_names:
            table = getattr(layer, part, {})
            for adapter in table:
                here = places.setdefault(adapter, {})
                where, held = f"{name}.{part}.{adapter}", table[adapter]
                if isinstance(held, Tensor):
                    here[where] = held
                else:
                    here |= {f"{where}.{key}": tensor for key, tensor in held.named_parameters()}
                    here |= {f"{where}.{key}": tensor for key, tensor in held.named_buffers()}
    return places


def _is_mixer(name: str, names: Mapping[str, Any]) -> bool:
    """Whether the key is a mixer's, beside an A: an adapter or a module may be called `lora_AB` too."""
    found = _STRAY_MIXER.fullmatch(name)
    return found is not None and any(other.startswith(f"{found['layer']}.lora_A.") for other in names)


def _misfit(name: str, tensor: Any, place: Tensor | None) -> list[str]:
    if place is None or not isinstance(tensor, Tensor):
        return []
    # A parameter that ZeRO-3 has partitioned shows no shape of its own.
    if tensor.shape != place.shape and not hasattr(place, "ds_id"):
        return [f"{name} is {tuple(tensor.shape)}, not {tuple(place.shape)}"]
    if tensor.is_meta or not tensor.numel():
        return []
    fault = not_finite(tensor)
    return [f"{name} {fault}"] if fault else []


def _is_embedding(name: str) -> bool:
    return any(part in EMBEDDING_LAYER_NAMES for part in name.split("."))


def _is_trained_beside(name: str, config: MosLoraConfig) -> bool:
    """Whether the config says that such a tensor is trained with the LoRA layers, though in none of them."""
    parts = name.split(".")
    whole_module = "modules_to_save" in parts or any(part.startswith("trainable_tokens") for part in parts)
    return whole_module or (config.bias != "none" and name.endswith("bias"))
