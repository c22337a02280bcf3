"""Greedy answers as they come: a model generates in a thread, its text is handed on piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

from moslora_xtuner.errors import DataError, EvaluationError


def stream(generate: Callable[..., Any], tokenizer: Any, name: str, *, prompted: bool, **options: Any) -> Iterator[str]:
    """The pieces of an answer.

    Args:
        generate: a model's.
        tokenizer: that reads its tokens.
        name: of the model, for what is said when it fails.
        prompted: whether what is generated begins with the prompt's own tokens.
        **options: of `generate`.

    Raises:
        EvaluationError: it failed.
    """
    import torch
    from transformers import TextIteratorStreamer

    # Blanks that are taken back later cannot be taken back from who has read them.
    streamer = TextIteratorStreamer(
        tokenizer, skip_prompt=prompted, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with torch.inference_mode():
                generate(streamer=streamer, **options)
        except BaseException as fault:  # told in the caller's thread
            failed.append(fault)
            streamer.end()

    thread = Thread(target=run, daemon=True)
    thread.start()
    yield from (piece for piece in streamer if piece)
    thread.join()
    if failed:
        raise EvaluationError(f"{name} cannot answer ({type(failed[0]).__name__}: {failed[0]})") from failed[0]


def room_for(new_tokens: int, prompt: int, longest: int | None, what: str = "") -> int:
    """How many tokens an answer may have. Raises DataError where the prompt alone is too long.

    Args:
        new_tokens: wanted at most.
        prompt: its tokens.
        longest: what the model reads; None where it does not say.
        what: beside words, that the prompt's tokens stand for.
    """
    if longest is None:
        return new_tokens
    if longest - prompt < 1:
        raise DataError(f"the conversation has {prompt} tokens{what}, the model reads {longest}: begin a new one")
    return min(new_tokens, longest - prompt)
