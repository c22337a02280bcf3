"""A checkpoint's tensors, read one at a time wherever its files keep them; and what tells two checkpoints apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from .families import CONFIG, checkpoint_file

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE = ("model.safetensors", "pytorch_model.bin")
SAMPLE = 64
"""Elements of each tensor, evenly spread, that a content hash reads."""


class Weights:
    """The tensors of a checkpoint in one file or in shards; each is read when it is asked for.

    Args:
        checkpoint: a folder, or a hub id whose files are in the cache (or can be fetched).
        local_files_only: fetch nothing.

    Raises:
        ConfigError: there are no weights, a file of the index is missing, one cannot be read, or lacks what the index
            says that it has.
    """

    def __init__(self, checkpoint: str | Path, local_files_only: bool = False) -> None:
        self.checkpoint = str(checkpoint)
        self.local = local_files_only
        self._files: dict[Path, Any] = {}
        self._where: dict[str, Path] = {}
        for file, promised in self._shards():
            names = set(self._open(file).keys())
            if lacking := sorted(set(promised or ()) - names):
                raise ConfigError(f"{file} lacks {lacking[0]}, which the index says is in it: download it again")
            self._where |= dict.fromkeys(names if promised is None else promised, file)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    @property
    def files(self) -> int:
        """How many files there are."""
        return len(set(self._where.values()))

    def get(self, name: str) -> Tensor:
        """One tensor, in the number type of the file. Raises ConfigError when there is none of this name."""
        found = self._open(self._file(name))
        tensor: Tensor = found[name] if isinstance(found, dict) else found.get_tensor(name)
        return tensor

    def rows(self, name: str, places: slice | Tensor) -> Tensor:
        """Some rows of a matrix, without reading the others."""
        found = self._open(self._file(name))
        if isinstance(found, dict):
            picked: Tensor = found[name][places]
        elif isinstance(places, slice):
            picked = found.get_slice(name)[places]
        else:
            part = found.get_slice(name)
            wanted, back = places.unique(return_inverse=True)
            picked = torch.cat([part[int(row) : int(row) + 1] for row in wanted])[back]
        return picked

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        found = self._open(self._file(name))
        return tuple(found[name].shape if isinstance(found, dict) else found.get_slice(name).get_shape())

    def content_sha256(self) -> str:
        """A hash of every tensor's name, type, shape and SAMPLE of its elements; not of how they are cut into files.

        Two trainings of the same shapes differ in it; reading it takes seconds, not the minutes of all bytes.
        """
        digest = hashlib.sha256()
        for name in sorted(self._where):
            shape = self.shape(name)
            digest.update(f"{name} {list(shape)}".encode())
            rows = shape[0] if shape else 0
            if len(shape) < 2 or not rows:
                values = self.get(name).reshape(-1)
            else:
                steps = {round(step * (rows - 1) / 7) for step in range(8)}
                values = self.rows(name, torch.tensor(sorted(steps))).reshape(-1)
            picked = values[torch.linspace(0, max(len(values) - 1, 0), min(SAMPLE, len(values))).round().long()]
            digest.update(f"{picked.dtype}".encode())
            digest.update(picked.contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _file(self, name: str) -> Path:
        if name not in self._where:
            raise ConfigError(f"{self.checkpoint} has no weight {name}: it is of another kind, or a file is missing")
        return self._where[name]

    def _shards(self) -> list[tuple[Path, list[str] | None]]:
        for name in INDEXES:
            if (index := checkpoint_file(self.checkpoint, name, self.local)) is not None:
                placed: dict[str, list[str]] = {}
                for weight, file in _placed(index).items():
                    placed.setdefault(file, []).append(weight)
                found = {file: checkpoint_file(self.checkpoint, file, self.local) for file in placed}
                if missing := sorted(file for file, path in found.items() if path is None):
                    raise ConfigError(f"{self.checkpoint} lacks {', '.join(missing)}: download it again")
                return [(path, placed[file]) for file, path in found.items() if path is not None]
        for name in SINGLE:
            if (single := checkpoint_file(self.checkpoint, name, self.local)) is not None:
                return [(single, None)]
        raise ConfigError(f"{self.checkpoint} has no weights ({' or '.join(SINGLE)})")

    def _open(self, file: Path) -> Any:
        if file not in self._files:
            from safetensors import safe_open

            try:
                if file.suffix == ".safetensors":
                    # Not kept: it maps the file, and pages once read would count as this process's as long as it does.
                    return safe_open(file, "pt")
                # mapped as well, but its index is not to be read every time
                self._files[file] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            except Exception as fault:  # each format has its own types of damage
                why = str(fault).partition("\n")[0] or type(fault).__name__
                raise ConfigError(f"{file} cannot be read ({why}): download it again") from fault
        return self._files[file]


def _placed(index: Path) -> dict[str, str]:
    """Which file each weight is in. Raises ConfigError."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        return {str(weight): str(file) for weight, file in content["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise ConfigError(f"{index} is no index of weights ({fault!r}): download it again") from fault


def content_of(checkpoint: str | Path) -> dict[str, str]:
    """What a base model is by its content: hashes of its config and of its weights, whatever its folder is called.

    Raises ConfigError as `Weights`.
    """
    file = checkpoint_file(checkpoint, CONFIG)
    facts: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        facts = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    # What a copy of the same checkpoint may say otherwise.
    told = {key: value for key, value in facts.items() if not key.startswith("_") and key != "transformers_version"}
    config = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return {"config": config, "weights": Weights(checkpoint).content_sha256()}
