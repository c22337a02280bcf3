"""A loss that is not a number stops the training before the next update."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.hooks import StopOnBadLoss


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_loss_stops(bad: float) -> None:
    with pytest.raises(TrainingError, match=r"loss is (nan|inf|-inf) at step 8"):
        StopOnBadLoss().after_train_iter(SimpleNamespace(iter=7), 0, outputs={"loss": torch.tensor([1.0, bad])})


@pytest.mark.parametrize("outputs", [None, {}, {"loss": torch.tensor(2.0, dtype=torch.bfloat16), "note": "text"}])
def test_others_go_on(outputs: dict[str, object] | None) -> None:
    StopOnBadLoss().after_train_iter(SimpleNamespace(iter=7), 0, outputs=outputs)  # type: ignore[arg-type]
