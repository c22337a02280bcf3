"""The judge of free answers: a server that speaks OpenAI's protocol.

VLMEvalKit's own judge object takes a failed request for an answer (its text says that it failed) and goes on. This one
asks again; a prompt that the server will not take, though it takes others, is refused, and when the server stays away
it says so and nothing is scored.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError, UsageError

from ..openai_client import RETRIES, TIMEOUT, Away, Client
from .base import AnyJudge, Ask, JudgeAway, Refused, Reply, VerdictLog

WORKERS = 8
LOCAL = "local:"
STANDS_FOR = {
    "gpt-4-turbo": "gpt-4-1106-preview",
    "gpt-4-0613": "gpt-4-0613",
    "gpt-4-0125": "gpt-4-0125-preview",
    "gpt-4-0409": "gpt-4-turbo-2024-04-09",
    "chatgpt-1106": "gpt-3.5-turbo-1106",
    "chatgpt-0125": "gpt-3.5-turbo-0125",
    "gpt-4o": "gpt-4o-2024-05-13",
    "gpt-4o-0806": "gpt-4o-2024-08-06",
    "gpt-4o-1120": "gpt-4o-2024-11-20",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "qwen-7b": "Qwen/Qwen2.5-7B-Instruct",
    "qwen-72b": "Qwen/Qwen2.5-72B-Instruct",
    "deepseek": "deepseek-ai/DeepSeek-V3",
    "llama31-8b": "meta-llama/Llama-3.1-8B-Instruct",
}
"""The model that VLMEvalKit asks for a judge's name (ms-vlmeval 0.0.20, dataset/utils/judge_util.py, build_judge)."""
ELSEWHERE = ("qwen-7b", "qwen-72b", "deepseek", "llama31-8b")
"""Those that it does not ask of OpenAI."""
_COUNTS_THOUGHTS = re.compile(r"(?:^|[/-])(?:o[134]|gpt-5)")
"""Models that take max_completion_tokens and no temperature, as VLMEvalKit knows (api/gpt.py)."""
_LONGEST_NAME = 60


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
        """Read what stands on a command line.

        Raises UsageError when the name, the address or the folder is empty, or the name is VLMEvalKit's for a model
        that OpenAI does not have.
        """
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
        if not url and model in ELSEWHERE and not os.environ.get("OPENAI_API_BASE"):
            raise UsageError(
                f"--judge {model}: that is {STANDS_FOR[model]} in VLMEvalKit, which OpenAI does not serve: give the "
                f"server that does, {model}@http://HOST:PORT/v1, or {LOCAL}FOLDER"
            )
        return cls(model, url or None)

    @property
    def file_name(self) -> str:
        """Without what separates folders, and no longer than a file's name may be."""
        return re.sub(r"[^\w.+-]+", "-", self.model)[:_LONGEST_NAME]


class Judge(AnyJudge):
    """Replies of a language model behind an address.

    A name of VLMEvalKit's is asked for as the model that it stands for there; at an address of one's own where only the
    name itself is served, as itself, which is a departure.

    Args:
        model: its name there.
        log: where replies are kept.
        url: the server's address up to `/v1`; by default $OPENAI_API_BASE, else OpenAI's own.
        key: by default $OPENAI_API_KEY; servers of one's own need none.
        timeout: seconds for one reply.
        retries: how often a request is repeated after 408, 409, 429, 5xx, a time-out or a broken connection; a server's
            Retry-After is kept.
        workers: how many requests it gets at a time at most, however many threads ask.

    Once it has been away for all retries, it counts as away: nothing is asked any more.

    Raises:
        UsageError: a number makes no sense.
    """

    def __init__(
        self,
        model: str,
        log: VerdictLog,
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
        super().__init__(log, workers=workers)
        self.model = model
        self.client = Client(url, key=key, timeout=timeout, retries=retries)
        self.places = threading.BoundedSemaphore(workers)
        self.away: JudgeAway | None = None
        self.unlimited = False
        self._lock = threading.Lock()
        self._known: tuple[str, str] | None = None

    @property
    def address(self) -> str:
        """Its name and where it is."""
        return f"the judge {self.model} at {self.client.url}"

    @property
    def identity(self) -> str:
        """The model that is asked, and, as far as the server says, what it is; else where it is."""
        return self._resolved()[1]

    def _resolved(self) -> tuple[str, str]:
        """The model to ask for, and the judge's identity; found out once."""
        with self._lock:
            if self._known is None:
                self._known = self._resolve()
            return self._known

    def _resolve(self) -> tuple[str, str]:
        wanted = STANDS_FOR.get(self.model, self.model)
        if instead := os.environ.get("LOCAL_LLM"):
            self.departures.append(
                f"LOCAL_LLM is set, for which VLMEvalKit would ask {instead}, whatever the judge's name: {wanted} is "
                "asked"
            )
        if self.client.official:
            return wanted, wanted
        try:
            listed = self.client.models()
        except EvaluationError:
            if (before := self.log.judges.get(self.address)) is None:
                return wanted, f"{wanted} at {self.client.url}"
            # It may be asked nothing at all: what is kept of it is enough then.
            self.departures.append(f"{self.client.url} does not say now what it serves: taken for the judge of before")
            return wanted, before
        if wanted not in listed and self.model in listed:
            self.departures.append(
                f"{self.client.url} does not serve {wanted}, for which {self.model} stands in VLMEvalKit: "
                f"{self.model} itself is asked"
            )
            wanted = self.model
        root, parent = (listed.get(wanted, {}).get(name) for name in ("root", "parent"))
        if not root:
            return wanted, f"{wanted} at {self.client.url}"
        return wanted, f"{wanted}, which is {root}{f' on {parent}' if parent else ''}"

    def _ask(self, text: str, ask: Ask) -> Reply:
        model, _ = self._resolved()
        with self.places:
            if self.away is not None:  # each prompt would wait through all retries anew
                raise self.away
            request: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
            thinks = _COUNTS_THOUGHTS.search(model) is not None
            limit = {} if self.unlimited or ask.max_tokens is None else {_limit_of(model): ask.max_tokens}
            if not thinks:
                request["temperature"] = ask.temperature
            try:
                found = self.client.complete(on_request=self._count, **request, **limit)
            except Away as away:
                if away.this_alone:
                    raise Refused(str(away), final=not away.refused) from away
                if not limit or away.status not in (400, 413, 422):
                    raise self._gone(away) from away
                found = self._without_limit(request, ask, away)
        if not found.text:
            raise Refused("its reply was empty")
        return Reply(found.text, found.cut)

    def _without_limit(self, request: dict[str, Any], ask: Ask, before: Away) -> Any:
        """A server whose context is shorter than VLMEvalKit's limit takes no prompt with it."""
        try:
            found = self.client.complete(on_request=self._count, **request)
        except Away:
            raise self._gone(before) from before
        with self._lock:
            if not self.unlimited:
                self.unlimited = True
                self.departures.append(
                    f"{self.client.url} takes no prompt with VLMEvalKit's limit of {ask.max_tokens} tokens: asked "
                    "without a limit"
                )
        return found

    def _gone(self, away: Away) -> JudgeAway:
        model, _ = self._resolved()
        called = "" if model == self.model else f", asked for {model}, which the name stands for in VLMEvalKit,"
        self.away = JudgeAway(
            f"{self.address}{called} does not answer ({away}, {self.client.retries} retries): set its address and key "
            f"(OPENAI_API_BASE, OPENAI_API_KEY) and run the same command again; {len(self.verdicts)} verdicts are kept"
        )
        return self.away

    def _count(self) -> None:
        with self._lock:
            self.asked += 1


def _limit_of(model: str) -> str:
    return "max_completion_tokens" if _COUNTS_THOUGHTS.search(model) else "max_tokens"
