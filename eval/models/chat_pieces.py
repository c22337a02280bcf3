"""A conversation as a chat template writes it, taken apart: what is the template's, and what people wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from moslora_xtuner.data.tokens.tokenise import Pieces
from moslora_xtuner.errors import UsageError

_MARK = "\ue000"
"""A character of no script, around the places where people's words go in a template."""


def chat_pieces(tokenizer: Any, messages: Sequence[dict[str, Any]], image_token: str = "") -> Pieces:
    """The template's text of a conversation, and in it what people wrote, in which a control token is text.

    Args:
        tokenizer: with its chat template.
        messages: of a chat API, the last of them the user's.
        image_token: the mark of a picture, "" for a model that sees none.

    Raises:
        UsageError: the template refuses the conversation, or has no place for a system prompt.
    """
    render = partial(_rendered, tokenizer)
    words: list[str] = []

    def hidden(text: str) -> str:
        if not text:
            return ""  # a template may have another form without words
        words.append(text)
        return f"{_MARK}{len(words) - 1}{_MARK}"

    marked = [{**message, "content": _with_words(message["content"], hidden)} for message in messages]
    # What looks like a picture's mark would be moved like one.
    tame = [word.replace(image_token, "") for word in words] if image_token else words
    places = iter(tame)
    plain = [{**item, "content": _with_words(item["content"], lambda text: text and next(places))} for item in messages]
    whole, at = render(plain), 0
    pieces: list[tuple[str, bool]] = []
    parts = render(marked).split(_MARK)
    if messages[0]["role"] == "system" and messages[0]["content"] and "0" not in parts[1::2]:
        raise UsageError("the model's chat template has no place for a system prompt: leave it out")
    for number, piece in enumerate(parts):
        written = bool(number % 2)
        text = tame[int(piece)] if written else piece
        bare = written and not whole.startswith(text, at)  # a template may take blanks off
        at += len(text.strip() if bare else text)
        said = words[int(piece)] if written else piece
        pieces.append((said.strip() if bare else said, written))
    if at != len(whole):
        return ((render(messages), False),)  # a template that does more with people's words
    return tuple(pieces)


def _rendered(tokenizer: Any, messages: Sequence[dict[str, Any]]) -> str:
    from jinja2.exceptions import TemplateError

    try:
        return str(tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False))
    except TemplateError as fault:
        raise UsageError(f"the model's chat template refuses this conversation: {fault}") from fault


def _with_words(content: Any, replace: Callable[[str], str]) -> Any:
    """A message's content, a text or parts, with other words."""
    if isinstance(content, str):
        return replace(content)
    return [{**part, "text": replace(part["text"])} if part["type"] == "text" else part for part in content]
