"""Turning records into token ids and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ..instructions import around_marks
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
Pieces = tuple[tuple[str, bool], ...]
"""A text in a row of pieces, each with whether somebody wrote it; the others are a template's."""


class Encoder:
    """A tokenizer without its special rules for sequences, that travels to other processes and takes many texts.

    A text is a row of pieces, those of a template and those that somebody wrote. What somebody wrote is text: a
    control token in it (`<|eot_id|>`, `</s>`) is encoded as its letters, not as what it would do.

    Args:
        tokenizer: a Hugging Face tokenizer; a fast one is used without its Python part.
        obey: keep a control token's meaning wherever it stands.
    """

    def __init__(self, tokenizer: Any, *, obey: bool = False) -> None:
        self.bos: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        self.rust = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        self.python = None if tokenizer.is_fast else tokenizer
        self.control = {} if obey else control_tokens(tokenizer)
        self._beginnings = sorted({token[:2] for token in self.control})
        self._split = re.compile("|".join(map(re.escape, sorted(self.control, key=len, reverse=True))) or r"(?!)")
        self._literal: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_literal": None}

    def __call__(self, texts: Sequence[str | Pieces]) -> list[list[int]]:
        """The ids of each text, no token added; texts that come several times are encoded once."""
        whole = [text if isinstance(text, str) else "".join(piece for piece, _ in text) for text in texts]
        found = self._encoded(whole)
        for place, text in enumerate(texts):
            if not isinstance(text, str) and any(written and self.has_control(piece) for piece, written in text):
                found[place] = self._literally(text)
        return found

    def has_control(self, text: str) -> bool:
        """Whether a control token is written out in a text."""
        # Nearly no text has even the beginning of one, which is found much sooner.
        return any(beginning in text for beginning in self._beginnings) and bool(self._split.search(text))

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        if self.rust is not None:
            found = [e.ids for e in self.rust.encode_batch_fast(list(places), add_special_tokens=False)]
        else:
            assert self.python is not None
            found = [self.python.encode(text, add_special_tokens=False) for text in places]
        return [found[places[text]] for text in texts]

    def _literally(self, pieces: Pieces) -> list[int]:
        """The ids of a text of which only the template's own control tokens are such."""
        ids: list[int] = []
        stretch = ""
        for piece, written in pieces:
            end = 0
            for token in () if written else self._split.finditer(piece):
                ids += self._letters(stretch + piece[end : token.start()])
                ids.append(self.control[token[0]])
                stretch, end = "", token.end()
            stretch += piece[end:]
        return ids + self._letters(stretch)

    def _letters(self, text: str) -> list[int]:
        """The ids of a stretch between two control tokens, in which none is one."""
        if not text:
            return []
        if self.python is not None:
            found: list[int] = self.python.encode(text, add_special_tokens=False, split_special_tokens=True)
            return found
        if self._literal is None:
            from tokenizers import Tokenizer

            assert self.rust is not None
            self._literal = Tokenizer.from_str(self.rust.to_str())
            self._literal.encode_special_tokens = True
        encoded: list[int] = self._literal.encode(text, add_special_tokens=False).ids
        return encoded


def control_tokens(tokenizer: Any) -> dict[str, int]:
    """A tokenizer's tokens that mean something to a model, by their text."""
    return {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}


def tokenise(records: Sequence[Record], encoder: Encoder, template: Template) -> list[Tokens]:
    """Ids and labels of conversations; the loss is on the assistant's words and their closing suffix alone.

    Equal to XTuner's `llava_map_fn`, `template_map_fn` and `encode_fn` (a test compares them): an image mark moves to
    the front of its turn, the beginning-of-text token opens the conversation, the template's separator closes each
    turn. Beyond XTuner's: a system prompt opens the conversation, several marks in one turn stay where they are, an
    answer may have no loss, and what people wrote has no control tokens.
    """
    parts = [list(_parts(record, template)) for record in records]
    encoded = iter(encoder([text for part in parts for text, _ in part if text is not None]))
    return [_joined(part, encoded, encoder.bos) for part in parts]


def has_control(record: Record, encoder: Encoder) -> bool:
    """Whether somebody wrote out a control token in a record."""
    return any(map(encoder.has_control, (record.system, *(text for turn in record.turns for text in turn))))


def _parts(record: Record, template: Template) -> Iterator[tuple[Pieces | None, bool]]:
    """The texts that are encoded each by itself, and whether they have a loss; None is an image."""
    opening: Pieces = around(template.system, "{system}", record.system) if record.system else ()
    for place, (human, answer) in enumerate(record.turns):
        texts = around_marks(human)
        if len(texts) == 2:
            texts = ["", f"\n{''.join(texts).strip()}".rstrip()]
        before, after = template.instruction.split("{input}")
        last = len(texts) - 1
        for number, text in enumerate(texts):
            start: Pieces = (*opening, (before, False)) if number == 0 else ()
            end: Pieces = ((after, False),) if number == last else ()
            if number:
                yield None, False
            yield (*start, (text, True), *end), False
        yield ((answer, True), (template.suffix, False)), place not in record.silent
        if template.separator:
            yield ((template.separator, False),), False
        opening = ()


def around(template: str, mark: str, text: str) -> Pieces:
    """A template with somebody's text in the place of its mark."""
    before, _, after = template.partition(mark)
    return (before, False), (text, True), (after, False)


def _joined(parts: list[tuple[Pieces | None, bool]], encoded: Iterator[list[int]], bos: list[int]) -> Tokens:
    ids, labels = list(bos), [IGNORE_INDEX] * len(bos)
    for text, loss in parts:
        piece = [IMAGE_TOKEN_INDEX] if text is None else next(encoded)
        ids += piece
        labels += piece if loss else [IGNORE_INDEX] * len(piece)
    return ids, labels
