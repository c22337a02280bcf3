"""The judge of free answers: a server that speaks OpenAI's protocol, asked for each verdict once.

It stands in for VLMEvalKit's own judge object (`generate`, `working`), which takes a failed request for an answer (its
text says that it failed) and goes on. This one asks again, and when the server stays away it says so and scores
nothing. Verdicts are kept in a file, so that scoring goes on where it stopped and costs nothing the second time.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError, UsageError

from ..openai_client import RETRIES, TIMEOUT, Away, Client
from .base import AnyJudge

WORKERS = 8
LOCAL = "local:"


class JudgeAway(EvaluationError):
    """The judge does not answer: nothing is scored in its place."""


@dataclass(frozen=True)
class JudgeAddress:
    """Who judges, and where: `NAME`, `NAME@URL` with the address up to `/v1`, or `local:FOLDER` with a model in it.

    `file_name` is the name as VLMEvalKit may put it into the names of files. Of `url` and `folder` one at most is set.
    """

    model: str
    url: str | None
    folder: Path | None = None

    @classmethod
    def read(cls, text: str) -> JudgeAddress:
        """Read what stands on a command line. Raises UsageError when the name, the address or the folder is empty."""
        if text.startswith(LOCAL):
            if not text.removeprefix(LOCAL).strip():
                raise UsageError(f"--judge {text}: give the folder of a language model, {LOCAL}FOLDER")
            folder = Path(text.removeprefix(LOCAL)).expanduser().resolve()
            return cls(folder.name, None, folder)
        model, at, url = text.partition("@")
        if not model or (at and not url.startswith(("http://", "https://"))):
            raise UsageError(
                f"--judge {text}: give a model's name, NAME@http://HOST:PORT/v1 for a server of your own, or "
                f"{LOCAL}FOLDER for a model on this machine"
            )
        return cls(model, url or None)

    @property
    def file_name(self) -> str:
        """Without what separates folders."""
        return re.sub(r"[^\w.+-]+", "-", self.model)


class Judge(AnyJudge):
    """Verdicts of a language model behind an address.

    Args:
        model: its name there.
        file: where verdicts are kept, one JSON line each; the parent folder is made.
        url: the server's address up to `/v1`; by default $OPENAI_API_BASE, else OpenAI's own.
        key: by default $OPENAI_API_KEY; servers of one's own need none.
        timeout: seconds for one answer.
        retries: how often a request is repeated after 408, 409, 429, 5xx, a time-out, a broken connection or an empty
            answer; a server's Retry-After is kept.
        workers: how many requests it gets at a time at most, however many threads ask.

    Once it has been away for all retries, it counts as away: nothing is asked any more.

    Raises:
        OutputError: a line of the file was not written by this class.
        UsageError: a number makes no sense.
    """

    def __init__(
        self,
        model: str,
        file: Path,
        *,
        url: str | None = None,
        key: str | None = None,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        workers: int = WORKERS,
    ) -> None:
        if workers < 1 or retries < 0 or not timeout > 0:
            raise UsageError(
                f"the judge needs one worker at least, no negative retries and a time-out above 0, got {workers=}, "
                f"{retries=}, {timeout=}"
            )
        super().__init__(model, file, workers=workers)
        self.model = model
        self.client = Client(url, key=key, timeout=timeout, retries=retries)
        self.places = threading.BoundedSemaphore(workers)
        self.away: JudgeAway | None = None

    def _ask(self, text: str, temperature: float, max_tokens: int | None) -> str:
        limit: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        with self.places:
            if self.away is not None:  # each prompt would wait through all retries anew
                raise self.away
            try:
                return self.client.complete(
                    on_request=self._count,
                    model=self.model,
                    messages=[{"role": "user", "content": text}],
                    temperature=temperature,
                    **limit,
                )
            except Away as away:
                found = JudgeAway(
                    f"the judge {self.model} at {self.client.url} does not answer ({away}, {self.client.retries} "
                    "retries): set its address and key (OPENAI_API_BASE, OPENAI_API_KEY) and run the same command "
                    f"again; {len(self.verdicts)} verdicts are kept"
                )
                if not away.this_alone:
                    self.away = found
                raise found from away

    def _count(self) -> None:
        with self.log.lock:
            self.asked += 1
