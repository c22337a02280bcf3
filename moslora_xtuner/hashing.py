"""Hashes that say whether two files, or two tokenizers, are the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def sha256(*paths: Path) -> str:
    """The SHA-256, in hex, of the files' bytes one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


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
