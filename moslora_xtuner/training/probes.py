"""Some records of the training's own data, kept beside the adapters: an export is proved on them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

COUNT = 4
"""How many records at most: with a picture, as long as there are such, and one without."""
LOOKED_AT = 200


def probes(dataset: Any) -> dict[str, Tensor]:
    """`N.ids` and `N.labels` (length), and `N.pixels` (images, 3, H, W) where a record has pictures.

    Args:
        dataset: of records with `input_ids`, `labels` and perhaps `pixel_values`, as `data.dataset.TokenStore`.

    Returns:
        Nothing for a dataset of another kind, whose export is proved on made-up records.
    """
    with_picture: list[dict[str, Tensor]] = []
    without: list[dict[str, Tensor]] = []
    for place in range(min(len(dataset), LOOKED_AT)):
        if len(with_picture) + len(without[:1]) >= COUNT:
            break
        with suppress(DataError, KeyError, TypeError):
            record = _tensors(dataset[place])
            (with_picture if "pixels" in record else without).append(record)
    chosen = [*without[:1], *with_picture][:COUNT] if with_picture else without[:COUNT]
    return {f"{number}.{name}": tensor for number, record in enumerate(chosen) for name, tensor in record.items()}


def _tensors(item: dict[str, Any]) -> dict[str, Tensor]:
    record = {
        "ids": torch.from_numpy(np.array(item["input_ids"], dtype=np.int64)),
        "labels": torch.from_numpy(np.array(item["labels"], dtype=np.int64)),
    }
    if "pixel_values" in item:
        record["pixels"] = torch.as_tensor(item["pixel_values"]).contiguous()
    return record
