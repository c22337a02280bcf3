"""What a checkpoint holds of each method, and a gradient that comes once where a method adds to the loss."""

from __future__ import annotations

import pytest
import torch
from text_models import KINDS, batch, build
from torch import nn

from moslora_xtuner.training.adapted_model import padded_right


def test_padding_on_the_right_alone() -> None:
    assert padded_right(torch.tensor([[True, True, False], [True, True, True]]))
    assert not padded_right(torch.tensor([[True, True, True], [False, True, True]]))


def test_one_backward_goes_through_checkpointed_blocks_and_regulariser() -> None:
    """ZeRO-2 refuses a gradient that comes twice; checkpointing that is re-entrant would bring each so."""
    model = build("adalora", use_activation_checkpointing=True).train()
    came: dict[str, int] = {}
    for name, weight in model.named_parameters():
        if "lora_A" in name:
            weight.register_post_accumulate_grad_hook(lambda _, name=name: came.update({name: came.get(name, 0) + 1}))
    model(batch())["loss"].backward()
    assert set(came.values()) == {1}
    assert len(came) == 6


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_checkpoint_holds_what_was_trained_and_a_frozen_mixer(kind: str) -> None:
    model, fresh = build(kind, seed=1), build(kind, seed=2)
    held = model.state_dict()
    assert {n for n, w in model.named_parameters() if w.requires_grad} <= held.keys()
    assert any("lora_AB" in name for name in held) is (kind in ("moslora", "frozen"))
    assert not any("embed_tokens" in name or "base_layer" in name for name in held)
    assert not nn.Module.load_state_dict(fresh, held, strict=False).unexpected_keys
    with torch.no_grad():
        torch.testing.assert_close(fresh.eval()(batch())["loss"], model.eval()(batch())["loss"])
