"""A directory read and held to all that can be asked of it without its model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import AdapterError
from ..config import DISK_TYPE, MosLoraConfig
from ..settings import value_problems
from .contents import content_problems, some, take_apart
from .disk import AUTHORS_FLAG, CONFIG_FILE, read_config, read_weights
from .names import ADVICE, name_problems
from .patterns import check_patterns_end


def read_whole(adapter_dir: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read an adapter's config and tensors, of a MOSLORA or a plain LoRA.

    Every A, B and mixer is present, finite and of the config's rank, every tensor is of a known kind, and stock
    PEFT makes a layer for each. Whether the model has more layers than these is not to be known here.

    Raises:
        AdapterError: what is wrong, as one line.
    """
    config = read_config(adapter_dir)
    _check_config(adapter_dir, config)
    tensors = read_weights(adapter_dir)
    contents = take_apart(tensors)
    if config["peft_type"] == "LORA" and any("AB" in layer.parts for layer in contents.layers.values()):
        raise AdapterError(
            f"{adapter_dir} says it is a plain LoRA and holds mixers: if the authors' code saved it, add "
            f'"{AUTHORS_FLAG}": true to its {CONFIG_FILE}'
        )
    check_patterns_end(config, [*contents.layers, *contents.others])
    problems = content_problems(config, contents)
    damaged = name_problems(config, contents, adapter_dir.resolve().name)
    if problems or damaged:
        advice = ADVICE if damaged or any("target_modules" in p or "no part" in p for p in problems) else ""
        raise AdapterError(
            f"{adapter_dir} is not whole: {some([*damaged, *problems])}: "
            + (advice or "copy or save the adapter again, with the config it was trained with")
        )
    return config, tensors


def _check_config(adapter_dir: Path, config: dict[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind not in (DISK_TYPE, "LORA"):
        told = f"peft_type {kind!r}" if "peft_type" in config else "no peft_type"
        raise AdapterError(f"{adapter_dir / CONFIG_FILE} has {told}, not {DISK_TYPE} or LORA: it has nothing to fold")
    where = adapter_dir / CONFIG_FILE
    if problems := value_problems(config):
        raise AdapterError(f"{where}: {some(problems)}")
    if kind == DISK_TYPE:
        config.setdefault("mixer", "learned")
        _build(where, config)


def _build(where: Path, config: Mapping[str, Any]) -> None:
    """A MOSLORA config is one that MosLoraConfig takes, whatever else stands in the file."""
    known = {option.name for option in fields(MosLoraConfig) if option.init}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            MosLoraConfig(**{key: value for key, value in config.items() if key in known and key != "peft_type"})
    except AdapterError as error:
        raise AdapterError(f"{where}: {error}") from None
    except Exception as error:  # PEFT's own checks of its fields
        raise AdapterError(f"{where}: {error}") from error
