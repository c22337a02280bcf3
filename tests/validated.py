"""Validation records without a file, and what a hook asks of mmengine's runner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper

from moslora_xtuner.data.dataset import collate
from moslora_xtuner.training.held_out import CHECKPOINTS


class Rows:
    """What `TokenStore` tells of its records, of lists: (ids, labels)."""

    def __init__(self, rows: Sequence[tuple[list[int], list[int]]]) -> None:
        self.rows = rows
        self.manifest: dict[str, Any] = {}
        supervised = np.array([sum(label != -100 for label in labels[1:]) for _, labels in rows])
        self.table = SimpleNamespace(column={"supervised": supervised}.__getitem__)
        self.image_counts = np.zeros(len(rows), np.int32)
        self.modality_lengths = -np.array([len(ids) for ids, _ in rows])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids, labels = self.rows[index]
        return {"id": str(index), "input_ids": ids, "labels": labels}


def made_up(count: int, seed: int = 0) -> Rows:
    """Records of 2 to 9 tokens, some places of each without a label."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ids = draw.integers(1, 64, draw.integers(2, 10)).tolist()
        rows.append((ids, [-100 if place % 3 == 1 else token for place, token in enumerate(ids)]))
    return Rows(rows)


def runner(model: Any, folder: Path, hooks: Sequence[Any], done: int = 0, total: int = 8, accumulation: int = 1) -> Any:
    """In the middle of a run: `iter` is the one in hand, counted from 0."""
    optimizer = torch.optim.SGD([w for w in model.parameters() if w.requires_grad], lr=0.1)
    written: list[dict[str, Any]] = []
    return SimpleNamespace(
        model=model, work_dir=str(folder), hooks=list(hooks), iter=done, max_iters=total, timestamp="now",
        optim_wrapper=OptimWrapper(optimizer), train_loop=SimpleNamespace(accumulation=accumulation), scalars=written,
        visualizer=SimpleNamespace(add_scalars=lambda told, step, file_path: written.append({**told, "step": step})),
        train_dataloader=SimpleNamespace(dataset=made_up(3), collate_fn=collate),
        cfg=ConfigDict(
            default_hooks={"checkpoint": {"type": CHECKPOINTS, "interval": 2}},
            train_cfg={},
            train_dataloader={"batch_size": 2, "collate_fn": {}, "dataset": {"type": "a.TokenStore"}},
        ),
    )  # fmt: skip
