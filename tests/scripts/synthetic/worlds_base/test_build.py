"""The base of small worlds, built in one go and in two."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from synthetic.worlds_base import build as module
from synthetic.worlds_base.build import CURRICULUM, Stage, build, make_tokenizer, padded, rows
from synthetic.worlds_base.relations import form, said
from synthetic.worlds_base.texts import Text, echo_of_few, pairs
from transformers import AutoModelForCausalLM

from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, Encoder, tokenise
from moslora_xtuner.data.worlds.forms import FORMS, draw


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(0)


def test_an_interrupted_build_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any
) -> None:
    monkeypatch.setattr(module, "make_tokenizer", lambda seed: tokenizer)
    stages = (
        Stage({echo_of_few: 1.0}, 3, (echo_of_few, 2.0), 300),
        Stage({pairs: 0.5, echo_of_few: 0.5}, 4, tokens=300),
    )
    monkeypatch.setattr(module, "CURRICULUM", stages)
    build(tmp_path / "whole", tell=lambda text: None, seed=3)

    def stopping(text: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "CURRICULUM", (stages[0], Stage(stages[1].shares, 50, tokens=300)))
    with pytest.raises(KeyboardInterrupt):  # At step 50 of the second stage, which is the first that tells anything.
        build(tmp_path / "stopped", tell=stopping, seed=3)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    monkeypatch.setattr(module, "CURRICULUM", stages)
    build(tmp_path / "stopped", tell=lambda text: None, seed=3)
    whole, stopped = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("whole", "stopped")
    )
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    begun = torch.load(tmp_path / "whole" / "stages" / "0.pt", weights_only=False)["model"]
    assert not torch.equal(begun["lm_head.weight"], whole["lm_head.weight"])


def test_what_another_curriculum_left_is_taught_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any
) -> None:
    monkeypatch.setattr(module, "make_tokenizer", lambda seed: tokenizer)
    for folder, steps in (("one", 3), ("one", 2), ("other", 2)):
        monkeypatch.setattr(module, "CURRICULUM", (Stage({pairs: 1.0}, steps, tokens=300), Stage({pairs: 1.0}, 1)))
        build(tmp_path / folder, tell=lambda text: None, seed=3)
    one = (tmp_path / "one" / "model.safetensors").read_bytes()
    assert one == (tmp_path / "other" / "model.safetensors").read_bytes()


def test_what_is_read_weighs_little_and_padding_nothing(tokenizer: Any) -> None:
    texts = [Text(((" Ann", False), (" park", True))), Text(((" Bob", False),))]
    ids, weights = padded(rows(tokenizer, texts, 0.1), tokenizer.pad_token_id)
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["<|begin_of_text|>", "ĠAnn", "Ġpark", "<|eot_id|>"]
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0.1, 1.0, 0.1], [0.0, 0.1, 0.1, 0.0]]))


def test_each_stage_but_the_last_waits_for_what_it_teaches() -> None:
    for stage in CURRICULUM[:-1]:
        assert stage.mastered is not None
        assert stage.mastered[0] in stage.shares
        assert sum(stage.shares.values()) == pytest.approx(1.0)
    assert CURRICULUM[-1].mastered is None


@pytest.mark.parametrize("seed", range(8))
def test_a_form_is_the_tokens_of_a_training_record(tokenizer: Any, seed: int) -> None:
    """With other tokens around its mark the base is at chance on the very questions that it has learnt."""
    rng = Random(seed)
    sample = draw(rng.choice(list(FORMS)), rng, test=False, side="base")
    record = Record("0", (), ((sample.instruction, sample.output),))
    template = get_template("alpaca_as_asked")
    ((ids, labels),) = tokenise([record], Encoder(tokenizer, plain=True), template, "answer")
    assert tokenizer.convert_ids_to_tokens(ids[0]) == "<|begin_of_text|>"
    for make in (form, said):
        ((made, weights),) = rows(tokenizer, [make(Random(seed))], 0.0)
        assert made == list(ids)
        learnt = [place for place, weight in enumerate(weights) if weight]
        answer = [place for place, label in enumerate(labels) if label != IGNORE_INDEX]
        # All of the answer but its end, or its mark alone.
        assert learnt == (answer[:-1] if make is said else answer[-2:-1])
