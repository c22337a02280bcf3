"""Token ids and labels, against the tokenizer's own chat template."""

from __future__ import annotations

import pytest
from synthetic.digits_base.words import IGNORE, IMAGE_ID, Encoder, train_tokenizer
from transformers import PreTrainedTokenizerFast

TURNS = [("<image>\nWhich digit is it?\nA. 3\nB. 7", "B"), ("墨水是什么颜色？", "红色")]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(1024, 0)


def test_the_ids_are_those_of_the_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    ids, labels = Encoder(tokenizer, image_tokens=36).encode(TURNS, plain=False)
    messages = [
        {"role": role, "content": text.replace("<image>\n", "")}
        for turn in TURNS
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    start = ids.index(IMAGE_ID)
    assert ids[start : start + 36] == [IMAGE_ID] * 36
    assert (
        tokenizer.decode(ids[:start] + ids[start + 36 :]).replace(
            "user<|end_header_id|>\n\n\n", "user<|end_header_id|>\n\n"
        )
        == text
    )
    taught = tokenizer.decode([label for label in labels if label != IGNORE])
    assert taught == "B<|eot_id|>红色<|eot_id|>"


def test_plain_text_has_no_template(tokenizer: PreTrainedTokenizerFast) -> None:
    ids, labels = Encoder(tokenizer, image_tokens=36).encode([("A. 3\n 3", "A"), (" 3", "A")], plain=True)
    assert tokenizer.decode(ids) == "<|begin_of_text|>A. 3\n 3A 3A"
    assert tokenizer.decode([label for label in labels if label != IGNORE]) == "AA"


def test_a_digit_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer.encode("1234567890", add_special_tokens=False)) == 10
