"""The judge of free answers: a server that speaks OpenAI's protocol, asked for each verdict once.

It stands in for VLMEvalKit's own judge object (`generate`, `working`), which takes a failed request for an answer (its
text says that it failed) and goes on. This one asks again, and when the server stays away it says so and scores
nothing. Verdicts are kept in a file, so that scoring goes on where it stopped and costs nothing the second time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from moslora_xtuner.errors import EvaluationError, OutputError, UsageError

RETRIES = 8
"""With waits that double from half a second to eight: about 40 seconds of patience."""
TIMEOUT = 60.0


class JudgeAway(EvaluationError):
    """The judge does not answer: nothing is scored in its place."""


@dataclass(frozen=True)
class JudgeAddress:
    """Who judges, and where: `NAME`, or `NAME@URL` with the address up to `/v1`.

    `file_name` is the name as VLMEvalKit may put it into the names of files.
    """

    model: str
    url: str | None

    @classmethod
    def read(cls, text: str) -> JudgeAddress:
        """Read what stands on a command line. Raises UsageError when the name or the address is empty."""
        model, at, url = text.partition("@")
        if not model or (at and not url.startswith(("http://", "https://"))):
            raise UsageError(
                f"--judge {text}: give a model's name, or NAME@http://HOST:PORT/v1 for a server of your own"
            )
        return cls(model, url or None)

    @property
    def file_name(self) -> str:
        """Without what separates folders."""
        return re.sub(r"[^\w.+-]+", "-", self.model)


class Judge:
    """Verdicts of a language model behind an address.

    Args:
        model: its name there.
        file: where verdicts are kept, one JSON line each; the parent folder is made.
        url: the server's address up to `/v1`; by default $OPENAI_API_BASE, else OpenAI's own.
        key: by default $OPENAI_API_KEY; servers of one's own need none.
        timeout: seconds for one answer.
        retries: how often a request is repeated after 408, 409, 429, 5xx, a time-out, a broken connection or an empty
            answer; a server's Retry-After is kept.

    Raises:
        OutputError: a line of the file was not written by this class.
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
    ) -> None:
        from openai import OpenAI

        self.model, self.file, self.retries = model, file, retries
        base = (url or os.environ.get("OPENAI_API_BASE") or "").removesuffix("/chat/completions") or None
        self.client = OpenAI(
            base_url=base,
            api_key=key or os.environ.get("OPENAI_API_KEY") or "none",
            timeout=timeout,
            max_retries=retries,
        )
        self.lock = threading.Lock()
        self.verdicts = _read(file)
        self.under_way: dict[str, Future[str]] = {}
        self.handle: IO[bytes] | None = None
        self.asked = 0

    def generate(self, prompt: Any, temperature: float = 0, max_tokens: int | None = None, **_: Any) -> str:
        """The verdict on a prompt: a text, or VLMEvalKit's list of messages with texts.

        Raises:
            JudgeAway: no answer after all retries.
        """
        text = prompt if isinstance(prompt, str) else "\n".join(str(part["value"]) for part in prompt)
        name = verdict_key(self.model, text, temperature, max_tokens)
        with self.lock:
            if name in self.verdicts:
                return self.verdicts[name]
            waiting = self.under_way.get(name)
            mine = self.under_way.setdefault(name, Future())
        if waiting is not None:  # another thread has asked the same
            return waiting.result()
        try:
            verdict = self._ask(text, temperature, max_tokens)
            self._keep(name, verdict)
            mine.set_result(verdict)
        except BaseException as fault:
            mine.set_exception(fault)
            raise
        finally:
            with self.lock:
                del self.under_way[name]
        return verdict

    def working(self) -> bool:
        """Always: told no, VLMEvalKit would match exactly instead. Whether it is there shows when it is asked."""
        return True

    def close(self) -> None:
        """Close the file; the judge may be asked again afterwards."""
        with self.lock:
            if self.handle is not None:
                self.handle.close()
                self.handle = None

    def _ask(self, text: str, temperature: float, max_tokens: int | None) -> str:
        from openai import APIConnectionError, APIError, APIStatusError

        limit: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        reason = "its answers were empty"
        for _ in range(self.retries + 1):
            with self.lock:
                self.asked += 1
            try:
                found = self.client.chat.completions.create(
                    model=self.model, messages=[{"role": "user", "content": text}], temperature=temperature, **limit
                )
                # A proxy's page of text parses as something without choices.
                choices = getattr(found, "choices", None)
                content = choices[0].message.content if choices else None
            except APIStatusError as fault:
                raise self._away(f"it answered {fault.status_code}") from fault
            except APIConnectionError as fault:
                raise self._away(f"{type(fault).__name__}: {fault}") from fault
            except (APIError, ValueError) as fault:  # an answer that is cut off or no JSON
                reason, content = f"its answers could not be read ({fault})", None
            if content and content.strip():
                return str(content).strip()
        raise self._away(reason)

    def _away(self, reason: str) -> JudgeAway:
        return JudgeAway(
            f"the judge {self.model} at {self.client.base_url} does not answer ({reason}, {self.retries} retries): set "
            "its address and key (OPENAI_API_BASE, OPENAI_API_KEY) and run the same command again; "
            f"{len(self.verdicts)} verdicts are kept"
        )

    def _keep(self, name: str, verdict: str) -> None:
        with self.lock:
            self.verdicts[name] = verdict
            if self.handle is None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self.handle = self.file.open("ab")
            self.handle.write((json.dumps({"key": name, "verdict": verdict}, ensure_ascii=False) + "\n").encode())
            self.handle.flush()
            os.fsync(self.handle.fileno())


def verdict_key(model: str, prompt: str, temperature: float, max_tokens: int | None) -> str:
    """The hash under which a verdict is kept: of all that it depends on."""
    parts = json.dumps([model, prompt, float(temperature), max_tokens], ensure_ascii=False)
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _read(file: Path) -> dict[str, str]:
    """The verdicts of a file; a last line that a kill has torn is cut off."""
    if not file.exists():
        return {}
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    found = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            found[str(row["key"])] = str(row["verdict"])
        except (ValueError, KeyError, TypeError) as fault:
            raise OutputError(
                f"{file}, line {number} is no verdict of this program ({fault}): move the file away to ask again"
            ) from fault
    if len(whole) < len(content):
        os.truncate(file, len(whole))
    return found
