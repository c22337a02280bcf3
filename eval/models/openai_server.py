"""A model behind a server that speaks OpenAI's protocol (vLLM, SGLang, lmdeploy)."""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from moslora_xtuner.errors import EvaluationError, UsageError

from ..images import data_uri
from ..openai_client import Away, Client
from ..tasks.prompts import Question
from .worker_pool import Unanswered

SERVED = "openai:"
PROBE = "Describe in one sentence what you see when you look out of a window."
"""What a server is asked to be known again: another model finds other words."""
PROBE_TOKENS = 24
SAYS_WHICH = ("root", "parent", "meta")
"""Of an entry of /v1/models, what says which model it is (vLLM, SGLang, lmdeploy; llama.cpp)."""


class ModelAway(EvaluationError):
    """The model's server does not answer."""


@dataclass(frozen=True)
class ServedModel:
    """`openai:[NAME@]URL`, the URL up to `/v1`; without NAME the only model that the server lists.

    Which weights the server holds cannot be seen from here: the manifest says so. What can be seen is its entry in
    /v1/models and, once `probed`, what it answers to a fixed prompt, twice: both are part of `sha256`, so that the
    answers of a model that was replaced under the same name are not taken for the new one's.
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

    def probed(self) -> ServedModel:
        """The same with its answer to the fixed prompt. Raises ModelAway when the server does not answer."""
        answer = _probe(Client(self.url, retries=2), self.model)
        return replace(self, facts={**self.facts, "probe": {"prompt": PROBE, "answer": answer}})

    @property
    def known_by(self) -> dict[str, Any]:
        """What tells this model from another one that is served there under the same name; empty where nothing does."""
        says = self.facts.get("server_says", {})
        found = {name: says[name] for name in SAYS_WHICH if says.get(name)}
        if (answer := self.facts.get("probe", {}).get("answer")) is not None:
            found["answer to a fixed prompt"] = answer
        return found

    def since(self, before: Mapping[str, Any]) -> str | None:
        """What is to be said where answers of an earlier command are there, whose manifest says `before`.

        None where it is known to be the same model, or the answers are of another address or name.
        """
        if any(before.get(name) != self.facts[name] for name in ("served_by", "served_as")):
            return None
        if not self.known_by:
            return (
                f"{self.source}: it cannot be known whether this is still the model that answered before: the server "
                "says nothing of its weights and does not answer twice alike"
            )
        earlier = replace(self, facts=dict(before)).known_by
        changed = [name for name in {**earlier, **self.known_by} if earlier.get(name) != self.known_by.get(name)]
        if not changed:
            return None
        said = "; ".join(
            f"{name} was {earlier.get(name)!r:.80}, is {self.known_by.get(name)!r:.80}" for name in changed
        )
        return f"{self.source}: this is not known to be the model that answered before ({said}): all is asked again"

    @property
    def source(self) -> str:
        """The word that names it."""
        return f"{SERVED}{self.model}@{self.url}"

    @property
    def sha256(self) -> str:
        """Of the name, the address, and what else is known of it."""
        known = json.dumps(self.known_by, sort_keys=True, default=str)
        return hashlib.sha256(f"{self.model}\0{self.url}\0{known}".encode()).hexdigest()

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

    def run(self, batches: Sequence[Sequence[Question]]) -> Iterator[tuple[int, list[str | Unanswered]]]:
        """Yield each batch's number and answers as they come. Raises ModelAway when the server is away."""
        waiting = deque(enumerate(batches))
        under_way: dict[Future[list[str | Unanswered]], int] = {}
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
                raise ModelAway(
                    f"{self.model.source} does not answer: {away}. The answers so far are kept: run the same command "
                    "again when it does."
                ) from away
            finally:
                for future in under_way:
                    future.cancel()

    def _answer(self, questions: Sequence[Question]) -> list[str | Unanswered]:
        return [self._said(question) for question in questions]

    def _said(self, question: Question) -> str | Unanswered:
        content: list[dict[str, Any]] = [{"type": "text", "text": question.text}]
        if question.image is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": _address(question.image)}})
        try:
            return self.client.complete(
                model=self.model.model,
                messages=[{"role": "user", "content": content}],
                temperature=0,
                max_tokens=question.max_new_tokens,
            ).text
        except Away as away:
            if away.this_alone:
                return Unanswered(str(away))
            raise

    def close(self) -> None:
        """Nothing to end."""


def _probe(client: Client, model: str) -> str | None:
    """What the server says to a fixed prompt, if it says the same twice; None also where it takes no such prompt.

    Raises ModelAway when it does not answer at all.
    """
    messages = [{"role": "user", "content": PROBE}]
    try:
        first, second = (
            client.complete(model=model, messages=messages, temperature=0, max_tokens=PROBE_TOKENS).text
            for _ in range(2)
        )
    except Away as away:
        if away.this_alone or away.status in (400, 413, 422):
            return None
        raise ModelAway(f"{client.url} does not answer: {away}: is the server up, and does it serve {model}?") from away
    return first if first == second and first else None


def _address(image: bytes) -> str:
    try:
        return data_uri(image)
    except ValueError as fault:
        raise EvaluationError(f"An image of the benchmark is {fault}: no server reads it.") from fault
