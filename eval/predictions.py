"""Answers on disk: one JSON line each, appended and flushed, so that a killed run loses one batch at most."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from moslora_xtuner.errors import OutputError


def key(*parts: str) -> str:
    """The hash under which an answer is filed: of the model, the settings, the prompt and the image."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class PredictionLog:
    """The append-only file of one dataset's answers, keyed by question index and prompt hash.

    Lines with another hash (another prompt, picture or model) are kept and ignored; a torn last line, the
    trace of a kill, is cut off when the file is opened and its question asked again.
    Raises OutputError when a line before the last is not ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[tuple[str, str], str] = {}
        self._handle: IO[bytes] | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._read()

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self._answers[(str(record["index"]), record["key"])] = str(record["prediction"])
            except (ValueError, KeyError, TypeError) as error:
                raise OutputError(
                    f"{self.path}, line {number} is no answer of this program ({error}). "
                    "Move the file away to ask every question again."
                ) from error
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))

    def get(self, index: Any, prompt_key: str) -> str | None:
        """The stored answer to exactly this question, or None."""
        return self._answers.get((str(index), prompt_key))

    def add(self, records: Iterable[tuple[Any, str, str]]) -> None:
        """Append (index, key, answer) records and bring them to the disk before returning."""
        if self._handle is None:
            self._handle = self.path.open("ab")
        lines = []
        for index, prompt_key, answer in records:
            self._answers[(str(index), prompt_key)] = answer
            record = {"index": str(index), "key": prompt_key, "prediction": answer}
            lines.append(json.dumps(record, ensure_ascii=False) + "\n")
        self._handle.write("".join(lines).encode())
        self._handle.flush()
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file; the log may be used again afterwards."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
