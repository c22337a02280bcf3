"""A hash of all in a model's folder that its answers depend on."""

from __future__ import annotations

import hashlib
from pathlib import Path

from moslora_xtuner.hashing import LARGE, kept_sha256

SUFFIXES = {".json", ".safetensors", ".bin", ".model", ".txt", ".jinja"}
"""Logs and reports that stand beside a model do not count."""


def fingerprint(folder: Path) -> str:
    """A sha256 that changes when anything the answers depend on changes: every file by name, size and content."""
    digest = hashlib.sha256()
    for path in sorted(item for item in folder.iterdir() if item.is_file() and item.suffix in SUFFIXES):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        digest.update(path.read_bytes() if size < LARGE else kept_sha256(path).encode())
    return digest.hexdigest()
