"""A judge's verdicts: each asked for once, kept in a file, and there again in the next process."""

from __future__ import annotations

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from moslora_xtuner.json_log import JsonLog


class VerdictLog:
    """Verdicts by key, in memory and as JSON lines in a file. May be used by several threads at once.

    Args:
        file: one verdict a line; it and its folder are made with the first one. A last line that a kill has torn is
            cut off.

    Raises:
        OutputError: a line of the file was not written by this class.
    """

    def __init__(self, file: Path) -> None:
        self.log = JsonLog(file, "verdict")
        self.kept = dict(self.log.read(lambda row: (str(row["key"]), str(row["verdict"]))))
        self.lock = threading.Lock()
        self.under_way: dict[str, Future[str]] = {}

    def once(self, key: str, ask: Callable[[], str]) -> str:
        """The verdict of this key: the kept one, else the one that another thread is asking for, else `ask()`.

        Raises what `ask` raises, to all who wait for it (nothing is kept then), and OutputError when the verdict
        cannot be written.
        """
        with self.lock:
            if key in self.kept:
                return self.kept[key]
            waiting = self.under_way.get(key)
            mine = self.under_way.setdefault(key, Future())
        if waiting is not None:
            return waiting.result()
        try:
            verdict = ask()
            self.log.add([{"key": key, "verdict": verdict}])
            with self.lock:
                self.kept[key] = verdict
            mine.set_result(verdict)
        except BaseException as fault:
            mine.set_exception(fault)
            raise
        finally:
            with self.lock:
                del self.under_way[key]
        return verdict

    def close(self) -> None:
        """Close the file; it is opened again for a further verdict."""
        self.log.close()


class AnyJudge(ABC):
    """What VLMEvalKit asks of a judge (`generate`, `working`), each verdict asked for once and kept.

    Args:
        identity: all that tells this judge from another one, for the keys of its verdicts.
        file: where verdicts are kept.
        workers: how many prompts it takes at a time.
    """

    def __init__(self, identity: str, file: Path, *, workers: int) -> None:
        self.identity, self.workers = identity, workers
        self.log = VerdictLog(file)
        self.asked = 0

    @property
    def verdicts(self) -> dict[str, str]:
        """All kept verdicts by key."""
        return self.log.kept

    def generate(self, prompt: Any, temperature: float = 0, max_tokens: int | None = None, **_: Any) -> str:
        """The verdict on a prompt: a text, or VLMEvalKit's list of messages with texts.

        Raises:
            JudgeAway: there is none.
            OutputError: it cannot be written.
        """
        text = prompt if isinstance(prompt, str) else "\n".join(str(part["value"]) for part in prompt)
        key = verdict_key(self.identity, text, temperature, max_tokens)
        return self.log.once(key, lambda: self._ask(text, temperature, max_tokens))

    def working(self) -> bool:
        """Always: told no, VLMEvalKit would match exactly instead. Whether it is there shows when it is asked."""
        return True

    def close(self) -> None:
        """Close the file; the judge may be asked again afterwards."""
        self.log.close()

    @abstractmethod
    def _ask(self, text: str, temperature: float, max_tokens: int | None) -> str:
        """The verdict itself, counted in `asked`."""


def verdict_key(model: str, prompt: str, temperature: float, max_tokens: int | None) -> str:
    """The hash under which a verdict is kept: of all that it depends on."""
    parts = json.dumps([model, prompt, float(temperature), max_tokens], ensure_ascii=False)
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]
