"""Greedy answers: equal to transformers' own generation, alone or in any batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from moslora_xtuner.errors import EvaluationError
from moslora_xtuner.eval.fingerprint import fingerprint
from moslora_xtuner.eval.models.chat_format import chat_format
from moslora_xtuner.eval.models.llava import LlavaAnswerer
from moslora_xtuner.eval.tasks.prompts import Question

Picture = Callable[..., bytes]


@pytest.fixture(scope="module")
def answerer(export: Path) -> LlavaAnswerer:
    return LlavaAnswerer(export, device="cpu")


@pytest.fixture(scope="module")
def questions(picture: Picture) -> list[Question]:
    """Questions of many lengths over five pictures, two of them not square, and one without any."""
    images = [picture(1), picture(2), picture(3), picture(4, (60, 30)), picture(5, (17, 51))]
    made = [Question(f"{'which digit ' * (i % 7)}{i}?", images[i % 5], 6) for i in range(20)]
    return [*made, Question("no picture at all", None, 6)]


def test_equal_to_transformers_generate(answerer: LlavaAnswerer, export: Path, picture: Picture) -> None:
    question = Question("Which digit is it?", picture(9), 8)
    model: Any = LlavaForConditionalGeneration.from_pretrained(export)
    tokenizer = answerer.prompts.tokenizer
    text = (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n" + "<image>" * 36 + "\nWhich digit is it?"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert question.image is not None
    made = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=answerer.pixels(question.image)[None],
        do_sample=False,
        max_new_tokens=8,
        eos_token_id=[1, 4],
        pad_token_id=6,
    )
    expected = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip()
    assert expected
    assert answerer.answer([question]) == [expected]


def test_batched_equals_single_in_the_order_asked(answerer: LlavaAnswerer, questions: list[Question]) -> None:
    single = [answerer.answer([question])[0] for question in questions]
    assert len(set(single)) > 5  # the answers do depend on the questions
    for size in (3, 64):
        assert answerer.answer(questions, batch_size=size) == single


def test_the_longest_answer_is_each_questions_own(answerer: LlavaAnswerer, questions: list[Question]) -> None:
    short = [Question(item.text, item.image, 2) for item in questions[:4]]
    single = [answerer.answer([question])[0] for question in [*short, *questions[:4]]]
    assert single[:4] != single[4:]
    assert answerer.answer_batch([*short, *questions[:4]]) == single


def test_each_picture_is_encoded_once(export: Path, questions: list[Question]) -> None:
    answerer = LlavaAnswerer(export, device="cpu")
    encoded: list[int] = []
    answerer.model.vision_tower.register_forward_hook(lambda module, args, out: encoded.append(len(out[0])))
    answerer.answer(questions, batch_size=2)
    assert sum(encoded) == 5


def test_a_row_ends_at_its_stop_token(answerer: LlavaAnswerer, questions: list[Question], export: Path) -> None:
    free = LlavaAnswerer(export, device="cpu")
    free.prompts.stop_ids, free.prompts.stop_texts = set(), []
    made: list[list[int]] = []
    finished = free.prompts.finished
    free.prompts.finished = lambda tokens: (made.append(list(tokens)), finished(tokens))[1]  # type: ignore[method-assign, func-returns-value]
    free.answer(questions[:1])
    tokens = made[-1]
    assert len(tokens) == 6
    stop = next(i for i in range(1, 6) if tokens[i] not in tokens[:i])
    free.prompts.finished = finished  # type: ignore[method-assign]
    free.prompts.stop_ids = {tokens[stop]}
    expected = free.prompts.tokenizer.decode(tokens[:stop], skip_special_tokens=True).strip()
    assert free.answer(questions[:4])[0] == expected
    assert free.answer(questions[:1]) == [expected]


def test_the_template_and_the_system_prompt_are_used(export: Path, tmp_path: Path) -> None:
    content = json.loads((export / "moslora_export.json").read_text())
    content["system"] = "Be brief {x}."
    (tmp_path / "moslora_export.json").write_text(json.dumps(content))
    assert chat_format(tmp_path).prompt("<image>\nWhy {y}?") == (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief {x}.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<image>\nWhy {y}?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_what_is_no_export_is_refused(tmp_path: Path, export: Path, answerer: LlavaAnswerer) -> None:
    with pytest.raises(EvaluationError, match="moslora export"):
        LlavaAnswerer(tmp_path)
    content = json.loads((export / "moslora_export.json").read_text())
    (tmp_path / "moslora_export.json").write_text(json.dumps({**content, "kind": "lora"}))
    with pytest.raises(EvaluationError, match="'lora' cannot be evaluated"):
        chat_format(tmp_path)
    (tmp_path / "moslora_export.json").write_text("{")
    with pytest.raises(EvaluationError, match="cannot be used"):
        chat_format(tmp_path)
    with pytest.raises(EvaluationError, match="not a picture that can be read"):
        answerer.answer([Question("?", b"no picture", 2)])


def test_the_fingerprint_knows_the_weights(tmp_path: Path, new_export: Callable[..., Path]) -> None:
    one = new_export(tmp_path / "one", seed=1)
    same = new_export(tmp_path / "same", seed=1)
    other = new_export(tmp_path / "other", seed=2)
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
