"""Turning records into token ids and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..instructions import around_marks
from ..reading.records import Record
from .chat_templates import MAX_LENGTH as MAX_LENGTH
from .chat_templates import Loss, Template

IGNORE_INDEX = -100
"""Label of a token without a loss (PyTorch's cross entropy)."""
IMAGE_TOKEN_INDEX = -200
"""Stands in the ids where the image's features go (LLaVA, XTuner)."""
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
        plain: begin a text as the tokenizer itself does, not with its beginning-of-text token in any case.
    """

    def __init__(self, tokenizer: Any, *, obey: bool = False, plain: bool = False) -> None:
        bos, eos = tokenizer.bos_token_id, getattr(tokenizer, "eos_token_id", None)
        self.bos: list[int] = _own_opening(tokenizer) if plain else [] if bos is None else [bos]
        self.eos: list[int] = [] if eos is None else [eos]
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

    def is_blank(self, token: int) -> bool:
        """Whether a token is white space alone."""
        tokenizer: Any = self.python if self.rust is None else self.rust
        return not tokenizer.decode([token]).strip()

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


def _own_opening(tokenizer: Any) -> list[int]:
    """What a tokenizer puts before a text by itself."""
    with_it, without = (tokenizer.encode("a", add_special_tokens=added) for added in (True, False))
    at = next((i for i in range(len(with_it)) if with_it[i : i + len(without)] == without), 0)
    opening: list[int] = with_it[:at]
    return opening


def tokenise(records: Sequence[Record], encoder: Encoder, template: Template, loss: Loss | None = None) -> list[Tokens]:
    """Ids and labels of conversations; the loss is on the assistant's words and what closes them, or on all text.

    Equal to XTuner's `llava_map_fn`, `template_map_fn` and `encode_fn` (a test compares them): an image mark moves to
    the front of its turn, the beginning-of-text token opens the conversation, the template's separator closes each
    turn. Beyond XTuner's: a system prompt opens the conversation, several marks in one turn stay where they are, an
    answer may have no loss, and what people wrote has no control tokens. A joined
    template's turn is one text with its answer, as the authors' finetune.py encodes it (a test compares them).

    Args:
        records: the conversations.
        encoder: the tokenizer; for a plain template made with `plain`.
        template: around the turns.
        loss: where it is; the template's own when not given.
    """
    everywhere = (loss or template.loss) == "all"
    parts = [list(_parts(record, template)) for record in records]
    encoded = iter(encoder([text for row in parts for part in row for text in part.texts]))
    return [_joined(row, encoded, encoder, everywhere) for row in parts]


def has_control(record: Record, encoder: Encoder) -> bool:
    """Whether somebody wrote out a control token in a record."""
    return any(map(encoder.has_control, (record.system, *(text for turn in record.turns for text in turn))))


@dataclass(frozen=True)
class _Part:
    """What is encoded by itself: nothing is an image; of two texts the second is what the first begins with.

    Attributes:
        texts: one, two where only what follows the second is learnt, none for an image.
        learnt: whether it has a loss where only answers have one.
        closed: whether the end-of-text token follows.
        muted: whether it is of a turn that the data takes out of the loss.
    """

    texts: tuple[Pieces, ...]
    learnt: bool = False
    closed: bool = False
    muted: bool = False


def _parts(record: Record, template: Template) -> Iterator[_Part]:
    opening: Pieces = around(template.system, "{system}", record.system) if record.system else ()
    for place, (human, answer) in enumerate(record.turns):
        texts = around_marks(human)
        if len(texts) == 2:
            texts = ["", f"\n{''.join(texts).strip()}".rstrip()]
        before, after = template.instruction.split("{input}")
        muted = place in record.silent
        last = len(texts) - 1
        for number, text in enumerate(texts):
            start: Pieces = (*opening, (before, False)) if number == 0 else ()
            if number:
                yield _Part(())
            if number < last:
                yield _Part(((*start, (text, True)),), muted=muted)
                continue
            asked: Pieces = (*start, (text, True), (after, False))
            if template.joined:
                yield _Part(((*asked, (answer, True)), asked), learnt=True, closed=template.plain, muted=muted)
            else:
                said: Pieces = ((answer, True), (template.suffix, False))
                yield _Part((asked,), muted=muted)
                yield _Part((said,), learnt=True, closed=template.plain, muted=muted)
        if template.separator:
            yield _Part((((template.separator, False),),), muted=muted)
        opening = ()


def around(template: str, mark: str, text: str) -> Pieces:
    """A template with somebody's text in the place of its mark."""
    before, _, after = template.partition(mark)
    return (before, False), (text, True), (after, False)


def _joined(parts: list[_Part], encoded: Iterator[list[int]], encoder: Encoder, everywhere: bool) -> Tokens:
    ids, labels = list(encoder.bos), list(encoder.bos) if everywhere else [IGNORE_INDEX] * len(encoder.bos)
    for part in parts:
        found = [next(encoded) for _ in part.texts]
        piece = found[0] if found else [IMAGE_TOKEN_INDEX]
        piece = [*piece, *encoder.eos] if part.closed else piece
        silent = len(piece)
        if found and not part.muted and (everywhere or part.learnt):
            silent = _answer_begins(piece, found[1], encoder) if len(found) == 2 and not everywhere else 0
        ids += piece
        labels += [IGNORE_INDEX] * silent + piece[silent:]
    return ids, labels


def _answer_begins(whole: list[int], prompt: list[int], encoder: Encoder) -> int:
    """The place of an answer's first token where it is encoded in one text with its prompt.

    As many tokens as the prompt has alone (LLM-Adapters' finetune.py), but of those none that holds a letter of the
    answer, as where the prompt's last blank becomes a part of the answer's first word.
    """
    alike = next((i for i, (a, b) in enumerate(zip(whole, prompt, strict=False)) if a != b), len(prompt))
    begins = min(len(prompt), len(whole))
    while begins > alike and not encoder.is_blank(whole[begins - 1]):
        begins -= 1
    return begins
