"""One benchmark's verdicts: what VLMEvalKit asks, put to a judge, read, asked again within a bound, and counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import reading
from .base import AnyJudge, Ask, JudgeAway, Refused, Reply
from .reading import FAILED, Outcome, Read, Unread

LONGEST = 2048
"""VLMEvalKit's limit where a benchmark sets none (OpenAIWrapper)."""
GRADE_TOKENS = 3
"""Its limit for MM-Vet's grade (dataset/image_vqa.py, MMVet.evaluate)."""
UNCUT = 64
"""Tokens for a verdict that was cut off before it could be read."""
REFUSALS = 2
"""How often a prompt may be refused before it is not put again."""
MANY = 8
"""Prompts that must have been refused, and none answered, before the judge is no judge for the benchmark."""
Reader = Callable[[Reply, Mapping[str, Any]], Outcome]


@dataclass(frozen=True)
class Kind:
    """How VLMEvalKit asks for a verdict: what it makes of a reply, and at which temperatures it asks again."""

    read: Reader
    temperatures: tuple[float, ...]


_RISING = (0.0, 0.5, 1.0, 1.5, 2.0)
GRADE = Kind(lambda reply, row: reading.grade(reply), _RISING)
EXTRACTION = Kind(reading.extracted, _RISING)
YES_NO = Kind(lambda reply, row: reading.yes_no(reply), _RISING)
OPTION = Kind(lambda reply, row: reading.option(reply, _choices(row)), (0.0, 0.0, 0.0))


class Asking:
    """Stands in for VLMEvalKit's judge object while one benchmark is scored. May be used by several threads.

    Args:
        judge: who is asked.
        max_tokens: the longest reply; VLMEvalKit says so when it builds its judge.

    Attributes:
        unread: why there is no verdict on an answer, by its index.
    """

    def __init__(self, judge: AnyJudge, max_tokens: int = LONGEST) -> None:
        self.judge, self.max_tokens = judge, max_tokens
        self.unread: dict[str, str] = {}
        self._ours: set[str] = set()
        self._uncut: set[str] = set()
        self._replies: dict[bool, int] = {True: 0, False: 0}
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        """By index and prompt: circular questions are scored three times."""
        self._lock = threading.Lock()

    def about(self, kind: Kind, row: Mapping[str, Any]) -> Question:
        """What VLMEvalKit may ask about the answer in a row."""
        return Question(self, kind, row)

    def working(self) -> bool:
        """Always: told no, VLMEvalKit would match exactly instead. Whether it is there shows when it is asked."""
        return True

    def generate(self, prompt: Any, temperature: float = 0, **_: Any) -> str:
        """A reply as it is, to what no `Kind` stands for."""
        try:
            return self.judge.reply(_text(prompt), Ask(temperature, self.max_tokens)).text
        except Refused:
            return FAILED

    @property
    def departures(self) -> list[str]:
        """In what the judge was asked, or read, otherwise than VLMEvalKit does."""
        found = list(self.judge.departures)
        if self._uncut:
            found.append(
                f"{len(self._uncut)} verdicts were cut off at {self.max_tokens} tokens and asked for with {UNCUT} "
                f"({_some(self._uncut)})"
            )
        if self._ours:
            found.append(
                f"{len(self._ours)} verdicts are read where VLMEvalKit reads nothing or another one "
                f"({_some(self._ours)})"
            )
        return found

    def check(self) -> None:
        """Raises JudgeAway when many prompts were put and none got a reply: then nothing was judged."""
        if self._replies[False] >= MANY and not self._replies[True]:
            raise JudgeAway(
                f"{self.judge.address} refused each of {self._replies[False]} prompts "
                f"({next(iter(self.unread.values()), 'without a word')})"
            )

    def note(self, index: str, outcome: Outcome, *, uncut: bool, replied: bool) -> None:
        """Count what came of a question."""
        with self._lock:
            self._replies[replied] += 1
            if uncut:
                self._uncut.add(index)
            if isinstance(outcome, Unread):
                self.unread[index] = outcome.reason
            elif outcome.ours:
                self._ours.add(index)


class Question:
    """The judge of one answer, as VLMEvalKit asks it: the first call asks and reads, the next ones say the same."""

    def __init__(self, asking: Asking, kind: Kind, row: Mapping[str, Any]) -> None:
        self.asking, self.kind, self.row = asking, kind, row

    def generate(self, prompt: Any, **_: Any) -> str:
        """The verdict in VLMEvalKit's form, or its words for none.

        Raises:
            JudgeAway: the judge is not there.
            OutputError: its reply cannot be kept.
        """
        key = (str(self.row["index"]), _text(prompt))
        outcome = self.asking.outcomes.get(key)
        if outcome is None:
            outcome = self.asking.outcomes[key] = self._ask(key[1])
        return outcome.text if isinstance(outcome, Read) else FAILED

    def _ask(self, prompt: str) -> Outcome:
        """Put the prompt until a reply can be read: as often as VLMEvalKit would, longer where the limit cut it."""
        outcome: Outcome = Unread("without a word")
        refusals, uncut, replied = 0, False, False
        for ask in self._asks():
            try:
                reply = self.asking.judge.reply(prompt, ask)
            except Refused as refused:
                outcome, refusals = Unread(str(refused)), refusals + 1
                if refused.final or refusals == REFUSALS:
                    break
                continue
            replied = True
            outcome = self.kind.read(reply, self.row)
            if isinstance(outcome, Unread) and reply.cut and self.asking.max_tokens < UNCUT:
                uncut = True
                outcome = self._uncut(prompt, ask, outcome)
            if isinstance(outcome, Read):
                break
        self.asking.note(str(self.row["index"]), outcome, uncut=uncut, replied=replied)
        return outcome

    def _asks(self) -> Iterator[Ask]:
        limit = self.asking.max_tokens
        for attempt, temperature in enumerate(self.kind.temperatures):
            if attempt == 0 or self.asking.judge.repeats:
                yield Ask(temperature, limit, attempt)

    def _uncut(self, prompt: str, ask: Ask, before: Unread) -> Outcome:
        try:
            reply = self.asking.judge.reply(prompt, Ask(ask.temperature, UNCUT, ask.attempt))
        except Refused:
            return before
        return self.kind.read(reply, self.row)


def _choices(row: Mapping[str, Any]) -> dict[str, Any]:
    from vlmeval.dataset.utils.multiple_choice import build_choices

    found: dict[str, Any] = build_choices(row)
    return found


def _text(prompt: Any) -> str:
    """A text, or VLMEvalKit's list of messages with texts."""
    return prompt if isinstance(prompt, str) else "\n".join(str(part["value"]) for part in prompt)


def _some(indices: set[str], most: int = 5) -> str:
    first = sorted(indices, key=lambda name: (len(name), name))
    return f"of question {', '.join(first[:most])}{' and others' if len(first) > most else ''}"
