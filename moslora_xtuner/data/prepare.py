"""Tokenise once: from a checked LLaVA JSON to a token store that every rank maps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..llm.load import load_tokenizer
from ..output import atomic_folder, claim, marker
from .check import check_json
from .records import Record
from .templates import Template, fitting_template, get_template, require_special_tokens
from .tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX, tokenise

KIND = "token store"
MANIFEST = "store.json"


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


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def prepare(
    json_path: Path,
    images: Path,
    model: Path | str,
    out: Path,
    *,
    template: str | None = None,
    max_length: int = 2048 - 576,
    decode: bool = True,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Check the JSON, tokenise it and write the store; returns the store's manifest.

    The store is an Arrow table with the columns id, image, input_ids, labels, length and the manifest
    `store.json` (tokenizer hash, template, max length, source sha256, counts). It appears whole or not at all;
    one made from the same file with the same settings is used again.

    Args:
        json_path: LLaVA's `.json` or `.jsonl`.
        images: the folder that the records' image paths start from.
        model: folder or hub name of the language model, for its tokenizer.
        out: the store's folder.
        template: name of the chat template; by default the one whose special tokens the tokenizer has.
        max_length: text tokens a record may have; longer ones are cut and counted.
        decode: also decode every image.
        progress: called with the number of records checked.

    Raises:
        ConfigError: there is no tokenizer.
        DataError: any record or image is bad (the message lists the problems by kind), or the tokenizer lacks the
            template's special tokens.
        OutputError: `out` holds something else.
    """
    if template is not None:
        get_template(template)  # a wrong name is told before anything is loaded
    tokenizer = load_tokenizer(model)
    template = template or fitting_template(tokenizer)
    require_special_tokens(tokenizer, template)
    chat = get_template(template)
    settings = {
        "source": sha256(json_path) if json_path.is_file() else "",
        "tokenizer": tokenizer_hash(tokenizer),
        "template": template,
        "max_length": max_length,
    }
    if marker(out) is not None:
        claim(out, KIND, settings)
        found: dict[str, Any] = json.loads((out / MANIFEST).read_text())
        return found
    report, records = check_json(json_path, images, decode=decode, progress=progress)
    if report.problems:
        raise DataError(f"{report.table()}\nmend these records or take them out, then start again")
    truncated: list[str] = []
    with atomic_folder(out, KIND) as folder:
        claim(folder, KIND, settings)
        rows = _tokenised(records, tokenizer, chat, max_length, truncated)
        _write_arrow(folder / "records.arrow", rows)
        manifest = {
            **settings,
            "records": len(records),
            "text_only": report.text_only,
            "truncated": truncated,
            "json": json_path.name,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def _tokenised(
    records: Sequence[Record], tokenizer: Any, chat: Template, max_length: int, truncated: list[str]
) -> Iterator[dict[str, Any]]:
    """The store's rows; ids of records that had to be cut are appended to `truncated`."""
    for record in records:
        ids, labels = tokenise(record, tokenizer, chat)
        if len(ids) > max_length:
            ids, labels = ids[:max_length], labels[:max_length]
            truncated.append(record.id)
        if record.image is not None and IMAGE_TOKEN_INDEX not in ids:
            raise DataError(f"record {record.id}: cut at {max_length} tokens before its image: raise max_length")
        if all(label == IGNORE_INDEX for label in labels):
            # Alone in a batch its loss would be nan; XTuner drops such records in silence.
            raise DataError(
                f"record {record.id}: nothing to learn in its first {max_length} tokens: "
                "raise max_length or take the record out"
            )
        yield {"id": record.id, "image": record.image, "input_ids": ids, "labels": labels, "length": len(ids)}


def _write_arrow(path: Path, rows: Iterator[dict[str, Any]], batch: int = 1000) -> None:
    import pyarrow as pa

    tokens = pa.list_(pa.int32())
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("image", pa.string()),
            ("input_ids", tokens),
            ("labels", tokens),
            ("length", pa.int32()),
        ]
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == batch:
                writer.write_batch(pa.RecordBatch.from_pylist(group, schema))
                group = []
        if group:
            writer.write_batch(pa.RecordBatch.from_pylist(group, schema))
