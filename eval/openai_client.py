"""A server that speaks OpenAI's protocol, asked until it answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

RETRIES = 8
"""With waits that double from half a second to eight: about 40 seconds of patience."""
TIMEOUT = 60.0
PLAIN = "Say yes."
"""What a server is asked to see whether it answers anything at all."""


@dataclass(frozen=True)
class Completion:
    """What a server said; `cut`: it would have said more, but for the request's max_tokens."""

    text: str
    cut: bool = False


class Away(Exception):
    """The server did not answer, whatever the number of tries; the text says what it did instead.

    `this_alone`: it answers others, and so will not answer this one the next time either. `status`: of HTTP, where it
    said one.
    """

    def __init__(self, text: str, this_alone: bool = False, status: int | None = None) -> None:
        super().__init__(text)
        self.this_alone, self.status = this_alone, status

    @property
    def refused(self) -> bool:
        """Whether it was a plain no, which is not repeated; all else was, as often as the client does."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in (408, 409, 429)


class Client:
    """Requests to one server.

    Args:
        url: its address up to `/v1`; by default $OPENAI_API_BASE, else OpenAI's own.
        key: by default $OPENAI_API_KEY; servers of one's own need none.
        timeout: seconds for one answer.
        retries: how often a request is repeated after 408, 409, 429, 5xx, a time-out, a broken connection or an answer
            that cannot be read; a server's Retry-After is kept.
    """

    def __init__(
        self, url: str | None = None, *, key: str | None = None, timeout: float = TIMEOUT, retries: int = RETRIES
    ) -> None:
        from openai import OpenAI

        base = (url or os.environ.get("OPENAI_API_BASE") or "").removesuffix("/chat/completions") or None
        self.official = base is None
        self.retries = retries
        self.openai = OpenAI(
            base_url=base,
            api_key=key or os.environ.get("OPENAI_API_KEY") or "none",
            timeout=timeout,
            max_retries=retries,
        )

    @property
    def url(self) -> str:
        """The address that is asked."""
        return str(self.openai.base_url)

    def models(self) -> dict[str, dict[str, Any]]:
        """What the server serves: names to what it says of them. Raises EvaluationError when it is away."""
        from openai import OpenAIError

        from moslora_xtuner.errors import EvaluationError

        try:
            listed = self.openai.with_options(max_retries=min(2, self.retries)).models.list()
            return {item.id: item.model_dump(exclude={"id", "permission"}) for item in listed}
        except (OpenAIError, ValueError, AttributeError, TypeError, RecursionError) as fault:
            raise EvaluationError(
                f"{self.url} does not say what it serves ({type(fault).__name__}: {fault}): is the server up, and does "
                "the address end in /v1?"
            ) from fault

    def complete(self, *, on_request: Callable[[], None] = lambda: None, **request: Any) -> Completion:
        """What the server says, which may be nothing. Raises Away."""
        from openai import APIConnectionError, APIError, APIStatusError

        reason = ""
        for _ in range(self.retries + 1):
            on_request()
            try:
                return _read(self.openai.chat.completions.create(**request))
            except APIStatusError as fault:
                reason = f"it answered {fault.status_code}{_said(fault)}"
                raise self._away(reason, request, fault.status_code) from fault
            except APIConnectionError as fault:
                raise self._away(f"{type(fault).__name__}: {fault}", request) from fault
            except (APIError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as fault:
                # An answer that is cut off or no JSON; a proxy's page parses as something without choices.
                reason = f"its answers could not be read ({type(fault).__name__}: {fault})"
        raise self._away(reason, request)

    def _away(self, reason: str, request: dict[str, Any], status: int | None = None) -> Away:
        """Whether that is this request's fault: does the server answer a plain one, put in the same way?"""
        return Away(reason, self._alive(request), status)

    def _alive(self, request: dict[str, Any]) -> bool:
        from openai import OpenAIError

        plain = request | {"messages": [{"role": "user", "content": PLAIN}]}
        try:
            _read(self.openai.with_options(max_retries=min(1, self.retries)).chat.completions.create(**plain))
        except (OpenAIError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
            return False
        return True


def _read(found: Any) -> Completion:
    """The first choice's text. Raises AttributeError, LookupError or TypeError for what is no answer."""
    choice = found.choices[0]
    text = choice.message.content
    if isinstance(text, list):  # in parts, as some servers write it
        text = "".join(part["text"] for part in text)
    if not isinstance(text, str | None):
        raise TypeError(f"the content is a {type(text).__name__}, no text")
    return Completion((text or "").strip(), choice.finish_reason == "length")


def _said(fault: Any) -> str:
    """The server's own words on a refusal, on one line."""
    body = fault.body if isinstance(fault.body, dict) else {}
    words = " ".join(str(body.get("message") or "").split())
    return f" ({words[:200]})" if words else ""
