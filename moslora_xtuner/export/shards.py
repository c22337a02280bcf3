"""Safetensors files of bounded size, written as the tensors come."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

MOST = 1024**3
"""Bytes of a file: it is held in memory until it is written, and once more while it is."""


class Shards:
    """Writes tensors into `model-0000i-of-0000n.safetensors` with an index, or into one `model.safetensors`.

    Args:
        folder: where; one that is being made.
        most: bytes of a file. A larger tensor has a file of its own.
    """

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self.folder, self.most = folder, most
        self.waiting: dict[str, Tensor] = {}
        self.size = 0
        self.written: list[list[str]] = []
        self.bytes = self.parameters = 0
        self.largest = 0
        """Bytes of the largest file."""

    def add(self, name: str, tensor: Tensor) -> None:
        """Take one tensor; it is written now or with later ones."""
        size = tensor.numel() * tensor.element_size()
        if self.waiting and self.size + size > self.most:
            self._write()
        self.waiting[name] = tensor.contiguous()
        self.size += size
        self.bytes += size
        self.parameters += tensor.numel()

    def close(self) -> None:
        """Write what waits, and give the files their names."""
        self._write()
        count = len(self.written)
        if count == 1:
            (self.folder / self._part(0)).rename(self.folder / "model.safetensors")
            return
        places: dict[str, str] = {}
        for number, names in enumerate(self.written):
            file = f"model-{number + 1:05}-of-{count:05}.safetensors"
            (self.folder / self._part(number)).rename(self.folder / file)
            places |= dict.fromkeys(names, file)
        index = {"metadata": {"total_size": self.bytes}, "weight_map": dict(sorted(places.items()))}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    def _write(self) -> None:
        from safetensors.torch import save_file

        if self.waiting:
            file = self.folder / self._part(len(self.written))
            save_file(self.waiting, file, {"format": "pt"})
            file.chmod(0o644)  # safetensors leaves it to its owner alone: a server may be another user
            self.written.append(list(self.waiting))
            self.largest = max(self.largest, self.size)
        self.waiting, self.size = {}, 0

    @staticmethod
    def _part(number: int) -> str:
        return f"part-{number}.safetensors"
