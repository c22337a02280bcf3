"""The base of small worlds, built in one go and in two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic.worlds_base import build as module
from synthetic.worlds_base.build import CURRICULUM, Stage, build, make_tokenizer, padded, rows
from synthetic.worlds_base.texts import Text, echo_of_few, pairs
from transformers import AutoModelForCausalLM


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


def test_what_is_read_weighs_little_and_padding_nothing(tokenizer: Any) -> None:
    texts = [Text(((" Ann", False), (" park", True))), Text(((" Bob", False),))]
    ids, weights = padded(rows(tokenizer, texts, 0.1), tokenizer.pad_token_id)
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["<|begin_of_text|>", "ĠAnn", "Ġpark", "<|eot_id|>"]
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0.1, 1.0, 0.1], [0.0, 0.1, 0.1, 0.0]]))


def test_each_stage_waits_for_what_it_teaches() -> None:
    for stage in CURRICULUM[:-1]:
        assert stage.mastered is not None
        assert stage.mastered[0] in stage.shares
        assert sum(stage.shares.values()) == pytest.approx(1.0)
    assert CURRICULUM[-1].mastered is None
