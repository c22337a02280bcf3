"""The three methods that load an adapter's directory, each with a rehearsal before it for directories with mixers.

`PeftModel.from_pretrained`, `PeftModel.load_adapter` and transformers' `model.load_adapter` put layers into the model
before they read the weights, and nothing that they call knows both. They are methods, looked up when they are called:
names imported before this package go through here too. A plain LoRA passes untouched.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from peft.utils import set_peft_model_state_dict
from torch import nn
from transformers.integrations.peft import PeftAdapterMixin

from ...errors import AdapterError
from ..config import DISK_TYPE, MosLoraConfig
from ..directory.contents import PREFIX
from ..directory.disk import AUTHORS_FLAG, CONFIG_FILE, read_config, read_names, read_weights
from .incoming import refuse_unplaced
from .rehearsal import rehearse

_stock_from_pretrained: Callable[..., Any] = PeftModel.from_pretrained.__func__  # type: ignore[attr-defined]
_stock_load_adapter: Callable[..., Any] = PeftModel.load_adapter
_stock_transformers: Callable[..., Any] = PeftAdapterMixin.load_adapter
_HUB = ("subfolder", "revision", "cache_dir", "token")
_rehearsed: ContextVar[bool] = ContextVar("rehearsed", default=False)


def stand_before_loaders() -> None:
    """Put the three methods of this file in their places; doing it again changes nothing."""
    PeftModel.from_pretrained = _from_pretrained  # type: ignore[assignment, method-assign]
    PeftModel.load_adapter = _load_adapter  # type: ignore[method-assign]
    PeftAdapterMixin.load_adapter = _transformers_load_adapter


@classmethod  # type: ignore[misc]
@wraps(_stock_from_pretrained)
def _from_pretrained(cls: type[PeftModel], *args: Any, **kwargs: Any) -> Any:
    asked = _arguments(_stock_from_pretrained, cls, *args, **kwargs)
    config = _mixed_config(asked.get("model_id"), asked, asked.get("config"))
    if config is None:
        return _stock_from_pretrained(cls, *args, **kwargs)
    adapter = asked.get("adapter_name", "default")

    def load(model: nn.Module, config: PeftConfig) -> object:
        options = {**asked, "model": model, "config": config, "low_cpu_mem_usage": True, "torch_device": "cpu"}
        return _stock_from_pretrained(**options)

    with _Rehearsed():
        rehearse(asked["model"], config, adapter, asked["model_id"], load)
        return _stock_from_pretrained(cls, *args, **kwargs)


@wraps(_stock_load_adapter)
def _load_adapter(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
    asked = _arguments(_stock_load_adapter, self, *args, **kwargs)
    config = None if _rehearsed.get() else _mixed_config(asked.get("model_id"), asked, None)
    if config is None:
        return refuse_unplaced(_stock_load_adapter(self, *args, **kwargs))

    def load(model: nn.Module, _: PeftConfig) -> object:
        options = {**asked, "self": model, "low_cpu_mem_usage": True, "torch_device": "cpu"}
        return refuse_unplaced(_stock_load_adapter(**options))

    rehearse(self, config, asked["adapter_name"], asked["model_id"], load)
    return _stock_load_adapter(self, *args, **kwargs)


@wraps(_stock_transformers)
def _transformers_load_adapter(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    asked = _arguments(_stock_transformers, self, *args, **kwargs)
    source, tensors = asked.get("peft_model_id"), asked.get("adapter_state_dict")
    hub = {name: value for name, value in (asked.get("adapter_kwargs") or {}).items() if name in _HUB}
    hub |= {name: asked[name] for name in _HUB if asked.get(name) is not None}
    if source is None and getattr(asked.get("load_config"), "pretrained_model_name_or_path", None) is not None:
        source = asked["load_config"].pretrained_model_name_or_path
    config = _mixed_config(source, hub, asked.get("peft_config"))
    if config is None:
        return _stock_transformers(self, *args, **kwargs)
    adapter = asked.get("adapter_name") or "default"

    def load(model: nn.Module, config: PeftConfig) -> object:
        if tensors is None:
            return _stock_from_pretrained(
                PeftModel, model, source, adapter, config=config, low_cpu_mem_usage=True, torch_device="cpu", **hub
            )
        peft_model = PeftModel(model, config, adapter, low_cpu_mem_usage=True)
        named = {name if name.startswith(PREFIX) else PREFIX + name: value for name, value in tensors.items()}
        return refuse_unplaced(set_peft_model_state_dict(peft_model, named, adapter, low_cpu_mem_usage=True))

    # A name that is taken is stock's to refuse.
    if adapter not in getattr(self, "peft_config", {}):
        with _Rehearsed():
            rehearse(self, config, adapter, source or "the adapter's state dict", load)
    return _stock_transformers(self, *args, **kwargs)


class _Rehearsed:
    """Inside, PeftModel.load_adapter is a part of what was asked for and is not rehearsed again."""

    def __enter__(self) -> None:
        self.token = _rehearsed.set(True)

    def __exit__(self, *_: object) -> None:
        _rehearsed.reset(self.token)


def _arguments(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The call's arguments by name; nothing where it does not fit, which is stock's to tell."""
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return {}
    named = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(name, {})
    return named


def _mixed_config(source: Any, options: dict[str, Any], given: Any) -> MosLoraConfig | None:
    """The config of a directory with mixers (`given` in its place), None for every other.

    Raises:
        AdapterError: the directory says that it is ours, and cannot be read; or it hides mixers.
    """
    if not isinstance(source, (str, os.PathLike)):
        return given if isinstance(given, MosLoraConfig) else None
    hub = {name: options[name] for name in _HUB if options.get(name) is not None}
    folder = Path(source, hub.get("subfolder") or "")
    if (folder / CONFIG_FILE).is_file():
        kind = read_config(folder).get("peft_type")
        if kind == "LORA" and not isinstance(given, MosLoraConfig):
            _refuse_hidden_mixers(folder)
        if kind == DISK_TYPE or isinstance(given, MosLoraConfig):
            read_weights(folder)
    elif folder.exists():
        return None
    if isinstance(given, PeftConfig):
        return given if isinstance(given, MosLoraConfig) else None
    try:
        config = PeftConfig.from_pretrained(os.fspath(source), **hub)
    except AdapterError as error:
        raise AdapterError(f"{folder / CONFIG_FILE}: {error}") from error
    except Exception as error:
        if (folder / CONFIG_FILE).is_file() and read_config(folder).get("peft_type") == DISK_TYPE:
            raise AdapterError(f"{folder / CONFIG_FILE}: {error}") from error
        return None  # whatever stands in the way of a directory that is not known to be ours is stock's to tell
    return config if isinstance(config, MosLoraConfig) else None


def _refuse_hidden_mixers(folder: Path) -> None:
    """Stop a plain LoRA with mixers in its file; a file that cannot be read is stock's to tell of."""
    try:
        names = set(read_names(folder))
    except AdapterError:
        return
    if any(name.endswith(".lora_AB.weight") and name.replace("_AB.", "_A.") in names for name in names):
        raise AdapterError(
            f"{folder} says it is a plain LoRA, and there is no place for its mixers: if the authors' code saved it, "
            f'add "{AUTHORS_FLAG}": true to its {CONFIG_FILE}'
        )
