"""What an adapter directory looks like: the files, our type, and the authors' older form of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import AdapterError
from ..config import DISK_TYPE

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

    Raises:
        AdapterError: the peft_type is ours in other letters, or the authors' flag stands beside DoRA.
    """
    translated = dict(config)
    kind = translated.get("peft_type")
    flagged = translated.get(AUTHORS_FLAG, False)
    if isinstance(kind, str) and kind != kind.upper() and (kind.upper() == DISK_TYPE or flagged):
        raise AdapterError(f"peft_type {kind!r} is to be written {kind.upper()!r} in {CONFIG_FILE}")
    if kind != "LORA" or AUTHORS_FLAG not in translated:
        return translated
    if not isinstance(flagged, bool):
        raise AdapterError(f"{AUTHORS_FLAG}={flagged!r} is not true or false: mend it in {CONFIG_FILE}")
    if not flagged:
        return translated
    if translated.get("use_dora"):
        raise AdapterError(
            f"{AUTHORS_FLAG} beside use_dora has two meanings: the code that trained it leaves the mixer out of its "
            "forward and puts it into its merge. Set one of the two to false, by which of them you tested"
        )
    del translated[AUTHORS_FLAG]
    translated.update(peft_type=DISK_TYPE, mixer="learned")
    for key in AUTHORS_OLD_KEYS:
        if not translated.get(key):
            translated.pop(key, None)
    return translated


def read_config(adapter_dir: Path) -> dict[str, Any]:
    """Read and translate adapter_config.json.

    Raises:
        AdapterError: the file is missing, cannot be read, or is no JSON object with each key once.
    """
    path = adapter_dir / CONFIG_FILE

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError(f"a key stands twice among {', '.join(key for key, _ in pairs[:4])}, ...")
        return dict(pairs)

    try:
        config = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (FileNotFoundError, NotADirectoryError):
        raise AdapterError(f"{adapter_dir} has no {CONFIG_FILE}: name the folder that save_pretrained wrote") from None
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path} is not valid JSON ({error}): copy the adapter again") from None
    except OSError as error:
        raise AdapterError(f"{path} cannot be read ({error}): look at its permissions") from None
    if not isinstance(config, dict):
        raise AdapterError(f"{path} holds no JSON object: copy the adapter again")
    try:
        return translate_authors(config)
    except AdapterError as error:
        raise AdapterError(f"{path}: {error}") from None


def read_names(adapter_dir: Path) -> list[str]:
    """Return the names of the adapter's tensors; of a safetensors file only the header is read.

    Raises:
        AdapterError: as `read_weights`.
    """
    path = adapter_dir / WEIGHTS_FILE
    if not path.is_file():
        return list(read_weights(adapter_dir))
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except Exception as error:
        raise _unreadable(path, error) from error


def read_weights(adapter_dir: Path) -> dict[str, Tensor]:
    """Read the adapter's tensors onto the CPU, from safetensors or (weights only) from a .bin file.

    Raises:
        AdapterError: there is neither file, or it is damaged, or holds something else than named tensors.
    """
    path = adapter_dir / WEIGHTS_FILE
    try:
        if path.is_file():
            from safetensors.torch import load_file

            return load_file(path)
        path = adapter_dir / PICKLE_FILE
        if path.is_file():
            import torch

            return _tensors(path, torch.load(path, map_location="cpu", weights_only=True))
    except AdapterError:
        raise
    except Exception as error:  # each format has its own types of damage
        raise _unreadable(path, error) from error
    parts = sorted(part.name for part in adapter_dir.glob("adapter_model*"))
    there = f" (there is {', '.join(parts[:3])}: PEFT reads one whole file, so put the parts together)" if parts else ""
    raise AdapterError(f"{adapter_dir} has neither {WEIGHTS_FILE} nor {PICKLE_FILE}{there}")


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise AdapterError(f"{path} holds a {type(content).__name__}, no table of tensors: save the adapter again")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise AdapterError(
                f"{path}: {name!r} is a {type(value).__name__}, no named tensor: save the adapter alone, with "
                "save_pretrained"
            )
    return dict(content)


def _unreadable(path: Path, error: Exception) -> AdapterError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return AdapterError(f"{path} cannot be read ({first}): copy the adapter again")
