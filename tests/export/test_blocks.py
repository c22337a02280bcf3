"""Rows for tokens that a model never had."""

from __future__ import annotations

import torch

from moslora_xtuner.export.blocks import with_mean_rows


def test_an_added_token_is_never_the_likeliest() -> None:
    """Its logit is the mean of all."""
    torch.manual_seed(0)
    weight, states = torch.randn(9, 4), torch.randn(20, 4)
    wider = with_mean_rows(weight, 12)
    logits = states @ wider.T
    torch.testing.assert_close(logits[:, 9:], (states @ weight.T).mean(-1, keepdim=True).expand(-1, 3))
    assert int(logits.argmax(-1).max()) < 9
    assert with_mean_rows(weight, 5) is weight
