"""The loss of a model over validation records, on all processes together, without a trace in the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_rank, get_world_size
from torch import nn
from torch.utils.data import DataLoader

from ...errors import DataError, TrainingError
from ..checkpoints import random_states
from ..loss_head import SUMMED_LOSS
from ..out_of_memory import is_out_of_memory
from ..out_of_memory import told as out_of_memory
from ..unwrap import unwrapped
from .dealing import Batch, deal


class Records:
    """The records of a validation, and which of them are this process's.

    Args:
        dataset: a `data.dataset.TokenStore`.
        collate: as the training's.
        image_tokens: places of a picture.
        records: of a batch at most.
        most_places: of a batch at most; None for any.
        workers: processes that read ahead where there are pictures.
        pin_memory: as the training's data loader.

    Raises:
        DataError: no record has a place with a loss.
    """

    def __init__(
        self, dataset: Any, collate: Callable[..., Any], *, image_tokens: int, records: int, most_places: int | None,
        workers: int, pin_memory: bool,
    ) -> None:  # fmt: skip
        self.dataset = dataset
        images = dataset.image_counts
        places = abs(dataset.modality_lengths) + images * (image_tokens - 1)
        # Without a label there is no loss to count, and a process that has only such would leave the head out.
        useful = np.flatnonzero(dataset.table.column("supervised"))
        if not len(useful):
            raise DataError("no validation record has a place with a loss: give others")
        self.own: Sequence[Batch] = deal(useful, places, images > 0, records, most_places, get_world_size())[get_rank()]
        self.loader = DataLoader(
            dataset, batch_sampler=[list(batch.rows) for batch in self.own], collate_fn=collate,
            num_workers=workers if images.any() else 0, pin_memory=pin_memory,
        )  # fmt: skip
        random_states.from_own_generator(self.loader)

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[tuple[Any, bool]]:
        for batch, content in zip(self.own, self.loader, strict=True):
            yield content, batch.counts


def mean_loss(runner: Any, records: Records, alive: Callable[[], None] = lambda: None) -> float:
    """The mean cross entropy over the labelled places of all validation records::

        loss = sum_records sum_{t in S} c(t)  /  sum_records |S|

    with c(t) as in training (`MosLoraCausalLM`) and S a record's places with a label; dropout off, nothing of the
    method's own added. Each record counts once, whatever the processes and batches are. All processes call this
    together, and all get the same number. Modes and random states are afterwards what they were.

    Args:
        runner: mmengine's.
        records: of this process.
        alive: called after each batch.

    Raises:
        TrainingError: memory ran out.
    """
    total = torch.zeros(2, dtype=torch.float64)
    with _undisturbed(runner.model), torch.no_grad():
        for batch, counts in records:
            try:
                found = _forward(runner, batch)
            except (MemoryError, OSError, RuntimeError) as fault:
                if not is_out_of_memory(fault):
                    raise
                told = out_of_memory(fault, batch, runner.iter + 1, get_rank())
                raise TrainingError(f"in the validation, {told}; default_hooks.validation.batch_size=N") from fault
            if counts:
                total += found.double().cpu()
            alive()
    all_reduce(total)
    agreed = [float(total[0] / total[1])]
    broadcast_object_list(agreed)  # what follows from it, all do alike
    return agreed[0] if math.isfinite(agreed[0]) else math.nan


def _forward(runner: Any, batch: Any) -> torch.Tensor:
    """Sum and number of a batch's losses, through what DeepSpeed or mmengine has put around the model, as in training.

    Source: `train_step` of mmengine 0.10.6's MMDeepSpeedEngineWrapper, BaseModel and MMDistributedDataParallel.
    """
    model = runner.model
    data = unwrapped(model).data_preprocessor(batch, False)
    if hasattr(model, "_cast_inputs_half"):
        found: torch.Tensor = model._run_forward(model._cast_inputs_half(data), mode=SUMMED_LOSS)
        return found
    with runner.optim_wrapper.optim_context(model):
        plain: torch.Tensor = model._run_forward(data, mode=SUMMED_LOSS)
    return plain


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """While it lasts, the model evaluates; afterwards each part is in its mode, and what is drawn next is the same."""
    around = model if isinstance(model, nn.Module) else unwrapped(model)
    modes = [(part, part.training) for part in around.modules()]
    before = random_states.states()
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        random_states.set_states(before)
