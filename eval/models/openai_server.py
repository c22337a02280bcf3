"""A model behind a server that speaks OpenAI's protocol (vLLM, SGLang, lmdeploy)."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from moslora_xtuner.errors import EvaluationError, UsageError

from ..images import data_uri
from ..openai_client import Away, Client
from ..tasks.prompts import Question

SERVED = "openai:"


@dataclass(frozen=True)
class ServedModel:
    """`openai:[NAME@]URL`, the URL up to `/v1`; without NAME the only model that the server lists.

    Which weights the server holds cannot be seen from here: the manifest says so.
    """

    model: str
    url: str
    name: str
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, word: str, name: str | None = None) -> ServedModel:
        """Ask the server what it serves.

        Raises UsageError for a malformed address or several models, EvaluationError when the server is away.
        """
        model, at, url = word.removeprefix(SERVED).rpartition("@")
        if not url.startswith(("http://", "https://")) or (at and not model):
            raise UsageError(f"{word}: give {SERVED}http://HOST:PORT/v1, or {SERVED}NAME@http://HOST:PORT/v1")
        listed = Client(url, retries=2).models()
        if not model:
            if len(listed) != 1:
                raise UsageError(f"{url} serves {', '.join(listed) or 'no model'}: name one, {SERVED}NAME@{url}")
            model = next(iter(listed))
        elif listed and model not in listed:
            raise UsageError(f"{url} serves {', '.join(listed)}, not {model}")
        facts = {"served_by": url, "served_as": model, "server_says": listed.get(model, {}), "weights": "not seen"}
        shown = name or re.sub(r"[^\w.+-]+", "-", model.rstrip("/").rpartition("/")[2])
        return cls(model, url, shown, facts)

    @property
    def source(self) -> str:
        """The word that names it."""
        return f"{SERVED}{self.model}@{self.url}"

    @property
    def sha256(self) -> str:
        """Of the name and the address, which is all that is known."""
        return hashlib.sha256(f"{self.model}\0{self.url}".encode()).hexdigest()

    def prompt(self, question: Question) -> str:
        """The text alone: the chat form is the server's."""
        return question.text

    def lengths(self, questions: list[Question]) -> list[int]:
        """Characters; the server makes its own batches."""
        return [len(question.text) for question in questions]

    def batch_size(self, wanted: int) -> int:
        """One: each answer is kept as it comes."""
        return 1

    def conditions(self, batch_size: int) -> str:
        """None that could be seen from here."""
        return ""

    def pool(self, processes: int, batch_size: int) -> ServedPool:
        """`processes` times `batch_size` requests at a time."""
        return ServedPool(self, processes * batch_size)


class ServedPool:
    """Requests to one server, several at a time."""

    def __init__(self, model: ServedModel, at_a_time: int) -> None:
        self.model, self.at_a_time = model, at_a_time

    @cached_property
    def client(self) -> Client:
        """Made at the first question."""
        return Client(self.model.url)

    def run(self, batches: Sequence[Sequence[Question]]) -> Iterator[tuple[int, list[str]]]:
        """Yield each batch's number and answers as they come. Raises EvaluationError when the server is away."""
        waiting = deque(enumerate(batches))
        under_way: dict[Future[list[str]], int] = {}
        with ThreadPoolExecutor(self.at_a_time) as threads:
            try:
                while waiting or under_way:
                    while waiting and len(under_way) < self.at_a_time:
                        number, batch = waiting.popleft()
                        under_way[threads.submit(self._answer, batch)] = number
                    done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield under_way.pop(future), future.result()
            except Away as away:
                raise EvaluationError(
                    f"{self.model.source} does not answer: {away}. The answers so far are kept: run the same command "
                    "again when it does."
                ) from away
            finally:
                for future in under_way:
                    future.cancel()

    def _answer(self, questions: Sequence[Question]) -> list[str]:
        found = []
        for question in questions:
            content: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
            if question.image is not None:
                content.insert(0, {"type": "image_url", "image_url": {"url": _address(question.image)}})
            text = self.client.complete(
                model=self.model.model,
                messages=[{"role": "user", "content": content}],
                temperature=0,
                max_tokens=question.max_new_tokens,
                empty_is_answer=True,
            )
            found.append(text)
        return found

    def close(self) -> None:
        """Nothing to end."""


def _address(image: bytes) -> str:
    try:
        return data_uri(image)
    except ValueError as fault:
        raise EvaluationError(f"An image of the benchmark is {fault}: no server reads it.") from fault
