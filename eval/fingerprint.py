"""A hash of all in a model's folder that its answers depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path

_WHOLE = 64 * 1024**2
_BLOCK = 1024**2
_BLOCKS = 32


def fingerprint(folder: Path) -> str:
    """A sha256 that changes when anything the answers depend on changes.

    Every file by name, size and content; of files over 64 MiB 32 blocks of 1 MiB, spread evenly, so that
    16 GB of weights take a second, not a minute. Logs and reports that stand beside the model do not count.
    """
    digest = hashlib.sha256()
    suffixes = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja"}
    for path in sorted(item for item in folder.iterdir() if item.is_file() and item.suffix in suffixes):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as handle:
            if size <= _WHOLE:
                digest.update(handle.read())
                continue
            for number in range(_BLOCKS):
                handle.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                digest.update(handle.read(_BLOCK))
    return digest.hexdigest()
