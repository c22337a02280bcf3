"""Turning a record into token ids and labels."""

from __future__ import annotations

from typing import Any

from .instructions import IMAGE_TOKEN
from .records import Record
from .templates import Template

IGNORE_INDEX = -100
"""Label of a token without a loss (PyTorch's cross entropy)."""
IMAGE_TOKEN_INDEX = -200
"""Stands in the ids where the image's features go (LLaVA, XTuner)."""


def tokenise(record: Record, tokenizer: Any, template: Template) -> tuple[list[int], list[int]]:
    """Ids and labels of a conversation; the loss is on the assistant's words and their closing suffix alone.

    Equal to XTuner's `llava_map_fn`, `template_map_fn` and `encode_fn` (a test compares them): the image mark
    moves to the front of its turn, the beginning-of-text token opens the conversation, the template's separator
    closes each turn.
    """
    ids: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    labels = [IGNORE_INDEX] * len(ids)
    for human, answer in record.turns:
        if IMAGE_TOKEN in human:
            human = f"{IMAGE_TOKEN}\n{human.replace(IMAGE_TOKEN, '').strip()}".strip()
        before, *after = template.instruction.format(input=human).split(IMAGE_TOKEN)
        ids += tokenizer.encode(before, add_special_tokens=False)
        for piece in after:
            ids.append(IMAGE_TOKEN_INDEX)
            ids += tokenizer.encode(piece, add_special_tokens=False)
        labels += [IGNORE_INDEX] * (len(ids) - len(labels))
        reply = tokenizer.encode(answer + template.suffix, add_special_tokens=False)
        ids += reply
        labels += reply
        if template.separator:
            gap = tokenizer.encode(template.separator, add_special_tokens=False)
            ids += gap
            labels += [IGNORE_INDEX] * len(gap)
    return ids, labels
