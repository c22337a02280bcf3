"""Questions as token ids in the model's own chat form, and token ids as answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.data.tokens.tokenise import Encoder, Pieces, around
from moslora_xtuner.errors import EvaluationError

from ..tasks.prompts import Question
from .chat_format import chat_format

_HERE = "\0"
"""Marks where the question goes in a template that has other fields, too."""


class PromptIds:
    """The tokenizer and the chat form of a model's folder; needs none of its weights.

    Raises EvaluationError when the folder holds neither, or they contradict each other.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.form = chat_format(folder)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EvaluationError(f"{folder}: its tokenizer cannot be loaded: {error}. Export again.") from error
        self.encoder = Encoder(self.tokenizer)
        bos = self.tokenizer.bos_token_id
        if self.form.bos and bos is None:
            raise EvaluationError(f"{folder}: the export asks for a BOS token, its tokenizer has none.")
        self._bos: list[int] = [bos] if self.form.bos else []
        self.stop_ids, self.stop_texts = self._stops()

    def _stops(self) -> tuple[set[int], list[str]]:
        """Stop words that are one token, by id (with EOS), and the longer ones as text."""
        eos = self.tokenizer.eos_token_id
        ids, texts = ({eos} if eos is not None else set()), []
        for word in self.form.stop_words:
            tokens = self.tokenizer.encode(word, add_special_tokens=False)
            if len(tokens) == 1:
                ids.add(tokens[0])
            else:
                texts.append(word)
        return ids, texts

    def encode(self, questions: Sequence[Question]) -> list[tuple[list[int], list[int]]]:
        """Token ids of each before and after the image, each side encoded alone as in training; no image, no after."""
        # All at once: the tokenizer then uses every core.
        found = iter(self.encoder([side for question in questions for side in self._sides(question)]))
        return [(self._bos + next(found), list(next(found))) for _ in questions]

    def _sides(self, question: Question) -> tuple[Pieces, Pieces]:
        """The prompt before and after the picture; a control token in a question is text, as in training."""
        text = question.text.strip()
        opening = around(self.form.system_template, "{system}", self.form.system) if self.form.system else ()
        before, _, after = self.form.instruction.format(input=_HERE, round=1).partition(_HERE)
        if question.image is None:
            return (*opening, (before, False), (text, True), (after, False)), ()
        return (*opening, (before, False)), (("\n", False), (text, True), (after, False))

    def lengths(self, questions: Sequence[Question]) -> list[int]:
        """Each prompt's length in tokens, its image not counted."""
        return [len(before) + len(after) for before, after in self.encode(questions)]

    def finished(self, tokens: Sequence[int]) -> bool:
        """Tell whether the answer so far ends the turn."""
        if tokens[-1] in self.stop_ids:
            return True
        if not self.stop_texts:
            return False
        text = self.tokenizer.decode(tokens)
        return any(word in text for word in self.stop_texts)

    def text(self, tokens: Sequence[int]) -> str:
        """The answer's text, without stop words and other special tokens."""
        end = next((i for i, token in enumerate(tokens) if token in self.stop_ids), len(tokens))
        text: str = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        for word in self.stop_texts:
            text = text.split(word)[0]
        return text.strip()
