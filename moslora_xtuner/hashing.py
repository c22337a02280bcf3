"""Hashes that say whether two files, or two tokenizers, are the same."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from .atomic import atomic_json, make_folder
from .errors import OutputError
from .paths import cache_folder
from .progress import note

LARGE = 64 * 1024**2
"""Bytes from which on a file's hash is kept: hashing 16 GB of weights takes half a minute."""


def sha256(*paths: Path) -> str:
    """The SHA-256, in hex, of the files' bytes one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def kept_sha256(path: Path) -> str:
    """The SHA-256 of one file; a large one's is kept in the user's cache until its size or time differ."""
    found = path.stat()
    if found.st_size < LARGE:
        return sha256(path)
    name = str(path.resolve())
    kept = cache_folder() / "hashes" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    stamp = {"path": name, "bytes": found.st_size, "mtime_ns": found.st_mtime_ns, "inode": found.st_ino}
    with suppress(OSError, ValueError, AttributeError, KeyError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if {key: known.get(key) for key in stamp} == stamp:
            return str(known["sha256"])
    note(f"hashing {path} (once)")
    digest = sha256(path)
    with suppress(OutputError):  # a cache: without it the file is hashed again
        make_folder(kept.parent)
        atomic_json(kept, {**stamp, "sha256": digest})
    return digest


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 over the vocabulary, the special tokens and a sample's ids: equal hashes tokenise alike."""
    sample = "The quick brown fox, 12 + 30 = 42.\n\t你好，世界！ <|eot_id|>"
    facts = [
        sorted(tokenizer.get_vocab().items()),
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        tokenizer.encode(sample, add_special_tokens=False),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
