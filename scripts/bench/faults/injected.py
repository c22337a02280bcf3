"""What configs of disturbed trainings name: pictures and gradients that are no numbers."""

from __future__ import annotations

import random
from typing import Any

import torch
from mmengine.hooks import Hook

from moslora_xtuner.data.dataset import TokenStore


class SomeBadPictures(TokenStore):
    """A token store some of whose pictures are no numbers each time they are read.

    Args:
        share: of the records that have pictures.
        **options: of `TokenStore`.
    """

    def __init__(self, share: float = 0.05, **options: Any) -> None:
        super().__init__(**options)
        self.share = share

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index)
        if "pixel_values" in item and random.Random(index).random() < self.share:
            item["pixel_values"] = torch.full_like(item["pixel_values"], float("nan"))
        return item


class BadGradient(Hook):
    """From an iteration on, the gradient of one trained weight is no number.

    Args:
        iteration: counted from 0.
    """

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def before_train(self, runner: Any) -> None:
        """Stand in the gradient's way."""
        from moslora_xtuner.training.unwrap import unwrapped

        weight = next(w for w in unwrapped(runner.model).parameters() if w.requires_grad)
        weight.register_hook(lambda grad: grad * float("nan") if runner.iter >= self.iteration else grad)
