"""Answers on disk: one JSON line each, appended and flushed, so that a killed run loses one batch at most."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moslora_xtuner.json_log import JsonLog, text_of


def key(*parts: str) -> str:
    """The hash under which an answer is filed: of the model, the settings, the prompt and the image."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class PredictionLog:
    """The append-only file of one dataset's answers, keyed by question index and prompt hash.

    Lines with another hash (another prompt, picture or model) are kept and ignored.
    Raises OutputError when a line before the last is not ours, or answers a question a second time and otherwise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._log = JsonLog(path, "answer")
        self._answers: dict[tuple[str, str], str] = {}
        self._log.read(self._keep)

    def _keep(self, row: Any) -> None:
        index, name, answer = str(row["index"]), text_of(row, "key"), text_of(row, "prediction")
        if self._answers.setdefault((index, name), answer) != answer:
            raise ValueError(f"question {index} is answered a second time, otherwise: delete one of the two lines")

    def get(self, index: Any, prompt_key: str) -> str | None:
        """The stored answer to exactly this question, or None."""
        return self._answers.get((str(index), prompt_key))

    def add(self, records: Iterable[tuple[Any, str, str]]) -> None:
        """Append (index, key, answer) records and bring them to the disk before returning. Raises OutputError.

        What is answered already stays as it is.
        """
        rows = [
            {"index": str(index), "key": name, "prediction": answer}
            for index, name, answer in records
            if self.get(index, name) is None
        ]
        if rows:
            self._log.add(rows)
        self._answers |= {(row["index"], row["key"]): row["prediction"] for row in rows}

    def close(self) -> None:
        """Close the file; the log may be used again afterwards."""
        self._log.close()
