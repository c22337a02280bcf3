"""Turning records into token ids and labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..instructions import IMAGE_TOKEN
from ..reading.records import Record
from .chat_templates import Template

IGNORE_INDEX = -100
"""Label of a token without a loss (PyTorch's cross entropy)."""
IMAGE_TOKEN_INDEX = -200
"""Stands in the ids where the image's features go (LLaVA, XTuner)."""
MAX_LENGTH = 2048 - 576
"""Text tokens of a record, beside the 576 of its image (the authors' configs)."""
Tokens = tuple[list[int], list[int]]
"""Ids and labels of one record."""


class Encoder:
    """A tokenizer without its special rules for sequences, that travels to other processes and takes many texts.

    Args:
        tokenizer: a Hugging Face tokenizer; a fast one is used without its Python part.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.bos: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.rust = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        self.python = None if tokenizer.is_fast else tokenizer

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, no token added; texts that come several times are encoded once."""
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        if self.rust is not None:
            found = [e.ids for e in self.rust.encode_batch_fast(list(places), add_special_tokens=False)]
        else:
            assert self.python is not None
            found = [self.python.encode(text, add_special_tokens=False) for text in places]
        return [found[places[text]] for text in texts]


def tokenise(records: Sequence[Record], encoder: Encoder, template: Template) -> list[Tokens]:
    """Ids and labels of conversations; the loss is on the assistant's words and their closing suffix alone.

    Equal to XTuner's `llava_map_fn`, `template_map_fn` and `encode_fn` (a test compares them): an image mark moves to
    the front of its turn, the beginning-of-text token opens the conversation, the template's separator closes each
    turn. Beyond XTuner's: a system prompt opens the conversation, and several marks in one turn stay where they are.
    """
    parts = [list(_parts(record, template)) for record in records]
    encoded = iter(encoder([text for part in parts for text, _ in part if text is not None]))
    return [_joined(part, encoded, encoder.bos) for part in parts]


def _parts(record: Record, template: Template) -> Iterator[tuple[str | None, bool]]:
    """The texts that are encoded each by itself, and whether they have a loss; None is an image."""
    opening = template.system.format(system=record.system) if record.system else ""
    for human, answer in record.turns:
        if human.count(IMAGE_TOKEN) == 1:
            human = f"{IMAGE_TOKEN}\n{human.replace(IMAGE_TOKEN, '').strip()}".strip()
        before, *after = (opening + template.instruction.format(input=human)).split(IMAGE_TOKEN)
        yield before, False
        for piece in after:
            yield None, False
            yield piece, False
        yield answer + template.suffix, True
        if template.separator:
            yield template.separator, False
        opening = ""


def _joined(parts: list[tuple[str | None, bool]], encoded: Iterator[list[int]], bos: list[int]) -> Tokens:
    ids, labels = list(bos), [IGNORE_INDEX] * len(bos)
    for text, loss in parts:
        piece = [IMAGE_TOKEN_INDEX] if text is None else next(encoded)
        ids += piece
        labels += piece if loss else [IGNORE_INDEX] * len(piece)
    return ids, labels
