"""A server that speaks OpenAI's protocol, asked until it answers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

RETRIES = 8
"""With waits that double from half a second to eight: about 40 seconds of patience."""
TIMEOUT = 60.0


class Away(Exception):
    """The server did not answer, whatever the number of tries; the text says what it did instead.

    `this_alone`: it refused this one request, and may well answer others.
    """

    def __init__(self, text: str, this_alone: bool = False) -> None:
        super().__init__(text)
        self.this_alone = this_alone


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
            return {item.id: item.model_dump(exclude={"id", "permission"}) for item in self.openai.models.list()}
        except (OpenAIError, ValueError, AttributeError, TypeError) as fault:
            raise EvaluationError(
                f"{self.url} does not say what it serves ({type(fault).__name__}: {fault}): is the server up, and does "
                "the address end in /v1?"
            ) from fault

    def complete(
        self, *, empty_is_answer: bool = False, on_request: Callable[[], None] = lambda: None, **request: Any
    ) -> str:
        """The answer's text; an empty one is asked for again unless it counts as an answer. Raises Away."""
        from openai import APIConnectionError, APIError, APIStatusError

        reason = "its answers were empty"
        for _ in range(self.retries + 1):
            on_request()
            try:
                found = self.openai.chat.completions.create(**request)
                # A proxy's page of text parses as something without choices.
                choices = getattr(found, "choices", None)
                content = choices[0].message.content if choices else None
            except APIStatusError as fault:
                refused = fault.status_code in (400, 413, 422)
                raise Away(f"it answered {fault.status_code}", this_alone=refused) from fault
            except APIConnectionError as fault:
                raise Away(f"{type(fault).__name__}: {fault}") from fault
            except (APIError, ValueError) as fault:  # an answer that is cut off or no JSON
                reason, content = f"its answers could not be read ({fault})", None
            if content is not None and (content.strip() or empty_is_answer):
                return str(content).strip()
        raise Away(reason, this_alone=True)
