"""What an adapter directory looks like: the files, our type, and the authors' older form of it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
from torch import Tensor

from ..errors import AdapterError
from .config import DISK_TYPE, MosLoraConfig

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLE_FILE = "adapter_model.bin"
AUTHORS_FLAG = "lora_use_mixer"
"""In adapter_config.json of the authors' PEFT fork (github.com/wutaiqiang/MoSLoRA), beside type LORA."""
AUTHORS_OLD_KEYS = ("enable_lora", "merge_weights")
"""Settings of the PEFT of that time: for fused layers, which ours refuses, and of how eval mode was entered."""


def translate_authors(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return an adapter_config.json's content with the authors' flag turned into our type.

    Their weights have our names (`lora_A`, `lora_AB`, `lora_B`) and shapes, so only this differs.
    """
    translated = dict(config)
    if translated.get("peft_type") == "LORA" and translated.pop(AUTHORS_FLAG, False):
        translated.update(peft_type=DISK_TYPE, mixer="learned")
        for key in AUTHORS_OLD_KEYS:
            if not translated.get(key):
                translated.pop(key, None)
    return translated


def known_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the installed PEFT knows of a MosLoraConfig's content, and warn of the rest.

    Work-around for peft 0.14, which at one unknown key falls back to the defaults of all others, rank included
    (config.py, from_peft_type, filters by the wrong class); it can go when 0.14 is given up.
    """
    known = {field.name for field in fields(MosLoraConfig) if field.init}
    ignored = sorted(key for key, value in config.items() if key not in known and value)
    if ignored:
        warnings.warn(
            f"the installed peft {peft.__version__} does not know these fields of the adapter's config and ignores "
            f"them: {', '.join(ignored)}; they come from another release",
            stacklevel=2,
        )
    return {key: value for key, value in config.items() if key in known}


def read_config(adapter_dir: Path) -> dict[str, Any]:
    """Read and translate adapter_config.json.

    Raises:
        AdapterError: the file is missing or no JSON object.
    """
    path = adapter_dir / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(f"{adapter_dir} has no {CONFIG_FILE}: name the folder that save_pretrained wrote") from None
    except ValueError as error:
        raise AdapterError(f"{path} is not valid JSON ({error}): copy the adapter again") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{path} holds no JSON object: copy the adapter again")
    return translate_authors(config)


def read_shapes(adapter_dir: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the adapter's tensors; of a safetensors file only the header is read.

    Raises:
        AdapterError: as `read_weights`.
    """
    path = adapter_dir / WEIGHTS_FILE
    if not path.is_file():
        return {name: tuple(tensor.shape) for name, tensor in read_weights(adapter_dir).items()}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read ({error}): copy the adapter again") from error


def read_weights(adapter_dir: Path) -> dict[str, Tensor]:
    """Read the adapter's tensors onto the CPU, from safetensors or (weights only) from a .bin file.

    Raises:
        AdapterError: there is neither file, or it is damaged.
    """
    path = adapter_dir / WEIGHTS_FILE
    try:
        if path.is_file():
            from safetensors.torch import load_file

            return load_file(path)
        path = adapter_dir / PICKLE_FILE
        if path.is_file():
            import torch

            return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # each format has its own types of damage
        raise AdapterError(f"{path} cannot be read ({error}): copy the adapter again") from error
    raise AdapterError(f"{adapter_dir} has neither {WEIGHTS_FILE} nor {PICKLE_FILE}")
