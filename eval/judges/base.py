"""A judge's replies: each asked for once, kept in a file, and there again in the next process."""

from __future__ import annotations

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError, OutputError
from moslora_xtuner.json_log import JsonLog, text_of


class JudgeAway(EvaluationError):
    """The judge does not answer: nothing is scored in its place."""


class Refused(Exception):
    """The judge has no reply to this prompt, though it answers others; the text says what it did instead.

    `final`: the prompt was put as often as it makes sense.
    """

    def __init__(self, text: str, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


@dataclass(frozen=True)
class Reply:
    """A judge's words on a prompt; `cut`: there would have been more, but for the limit on its length."""

    text: str
    cut: bool = False


@dataclass(frozen=True)
class Ask:
    """How a prompt is put: a judge asked otherwise may reply otherwise. `attempt`: how often it was put so before."""

    temperature: float = 0.0
    max_tokens: int | None = None
    attempt: int = 0


class VerdictLog:
    """Replies by key, in memory and as JSON lines in a file. May be used by several threads at once.

    Args:
        file: one reply a line; it and its folder are made with the first one. A last line that a kill has torn is
            cut off.

    Raises:
        OutputError: a line of the file was not written by this class, or two replies stand under one key.
    """

    def __init__(self, file: Path) -> None:
        self.log = JsonLog(file, "verdict")
        self.kept: dict[str, Reply] = {}
        self.judges: dict[str, str] = {}
        """Which judge replied at an address under a name, the last time."""
        self.log.read(self._keep)
        self.lock = threading.Lock()
        self.under_way: dict[str, Future[Reply]] = {}
        self.unwritable: OutputError | None = None

    def _keep(self, row: Any) -> None:
        key, reply = text_of(row, "key"), Reply(text_of(row, "verdict"), bool(row.get("cut", False)))
        if self.kept.setdefault(key, reply) != reply:
            raise ValueError(f"a second, other one stands under the key {key}: delete one of the two lines")
        if "at" in row and "judge" in row:
            self.judges[text_of(row, "at")] = text_of(row, "judge")

    def once(self, key: str, ask: Callable[[], Reply], *, judge: str = "", at: str = "") -> Reply:
        """The reply of this key: the kept one, else the one that another thread is asking for, else `ask()`.

        Args:
            key: of all that the reply depends on.
            ask: for the reply.
            judge: which judge replies, for the file.
            at: its name and address.

        Raises what `ask` raises, to all who wait for it (nothing is kept then), and OutputError when the reply cannot
        be written: from then on nothing is asked for any more.
        """
        with self.lock:
            if key in self.kept:
                return self.kept[key]
            if self.unwritable is not None:
                raise self.unwritable
            waiting = self.under_way.get(key)
            mine = self.under_way.setdefault(key, Future())
        if waiting is not None:
            return waiting.result()
        try:
            reply = ask()
            row: dict[str, Any] = {"key": key, "verdict": reply.text}
            row |= {"cut": True} if reply.cut else {}
            row |= {"judge": judge, "at": at} if judge else {}
            try:
                self.log.add([row])
            except OutputError as fault:
                self.unwritable = fault
                raise
            with self.lock:
                self.kept[key] = reply
            mine.set_result(reply)
        except BaseException as fault:
            mine.set_exception(fault)
            raise
        finally:
            with self.lock:
                del self.under_way[key]
        return reply

    def close(self) -> None:
        """Close the file; it is opened again for a further reply."""
        self.log.close()


class AnyJudge(ABC):
    """A judge whose replies are kept, each asked for once.

    Args:
        log: where replies are kept.
        workers: how many prompts it takes at a time.

    Attributes:
        asked: requests that were made.
        departures: in what it is asked otherwise than VLMEvalKit asks its judge of that name.
        repeats: whether the same prompt may get another reply the next time.
    """

    repeats = True

    def __init__(self, log: VerdictLog, *, workers: int) -> None:
        self.log, self.workers = log, workers
        self.asked = 0
        self.departures: list[str] = []

    @property
    @abstractmethod
    def identity(self) -> str:
        """All that tells this judge from another one, for the keys of its replies."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Its name and where it is."""

    @property
    def verdicts(self) -> dict[str, Reply]:
        """All kept replies by key."""
        return self.log.kept

    def reply(self, prompt: str, ask: Ask) -> Reply:
        """The judge's words on a prompt.

        Raises:
            Refused: it has none for this prompt.
            JudgeAway: it has none at all.
            OutputError: they cannot be written.
        """
        key = verdict_key(self.identity, prompt, ask)
        return self.log.once(key, lambda: self._ask(prompt, ask), judge=self.identity, at=self.address)

    def close(self) -> None:
        """Close the file; the judge may be asked again afterwards."""
        self.log.close()

    @abstractmethod
    def _ask(self, text: str, ask: Ask) -> Reply:
        """The reply itself, counted in `asked`."""


def verdict_key(judge: str, prompt: str, ask: Ask) -> str:
    """The hash under which a reply is kept: of all that it depends on."""
    parts = json.dumps([judge, prompt, float(ask.temperature), ask.max_tokens, ask.attempt], ensure_ascii=False)
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]
