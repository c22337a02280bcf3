"""One micro-batch in the two forms in which it reaches a model: XTuner's and this package's."""

from __future__ import annotations

from typing import Any

import torch

from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX

from .shapes import Shape

SUPERVISED = 0.15
"""Of all places, pictures' included: the answers of the mix's conversations."""
SHORTEST = 0.94
"""The shortest record of a micro-batch over its longest: the length-grouped sampler puts like with like."""


def make_batch(shape: Shape, device: torch.device, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """XTuner's batch (one place for a picture) and ours (as many as it has patches), of the same records.

    Every record has a picture behind its first tokens and an answer at its end.
    """
    draw = torch.Generator().manual_seed(seed)
    longest = shape.tokens - shape.patches + 1
    lengths = [round(longest * (SHORTEST + (1 - SHORTEST) * row / max(1, shape.rows - 1))) for row in range(shape.rows)]
    ids = torch.zeros(shape.rows, longest, dtype=torch.long)
    labels = torch.full((shape.rows, longest), IGNORE_INDEX)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(10, shape.llm["vocab_size"] - 10, (length,), generator=draw)
        answer = max(2, min(length - 4, round(SUPERVISED * (length + shape.patches - 1))))
        labels[row, length - answer : length] = ids[row, length - answer : length]
        ids[row, 2] = IMAGE_TOKEN_INDEX
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    edge = shape.vision["image_size"]
    pixels = torch.randn(shape.rows, 3, edge, edge, generator=draw)
    stock = {"input_ids": ids, "labels": labels, "attention_mask": mask, "pixel_values": pixels}
    repeats = torch.ones(longest, dtype=torch.long)
    repeats[2] = shape.patches
    ours = {key: stock[key].repeat_interleave(repeats, dim=1) for key in ("input_ids", "labels", "attention_mask")} | {
        "pixel_values": pixels
    }
    return _moved(stock, device), _moved(ours, device)


def _moved(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, Any]:
    return {key: value.to(device) for key, value in batch.items()}
