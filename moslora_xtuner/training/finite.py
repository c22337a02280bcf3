"""Numbers that are none: found before they are loaded, updated with, or saved, and named by where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..errors import TrainingError
from ..progress import note
from .agreement import on_any_process
from .unwrap import unwrapped

_SHOWN = 3


class BadLoss(TrainingError):
    """A loss that is no finite number, on this process or on another one.

    Attributes:
        here: whether it is this process's own.
        value: the mean over all processes.
    """

    def __init__(self, value: float, *, here: bool) -> None:
        super().__init__(
            f"the loss is {value}: nothing was updated with it; lower the learning rate or look at the batch"
        )
        self.value, self.here = value, here


def told(fault: BadLoss, batch: Any, step: int, folder: Path) -> TrainingError:
    """The same with where it was: iteration, process, records, and the file in which the batch is kept."""
    parts = batch if isinstance(batch, list) else [batch]  # with max_tokens, all micro-batches of a step
    kept = [part["data"] if isinstance(part, dict) and "data" in part else {} for part in parts]
    kept = [{name: v.detach().cpu() if isinstance(v, Tensor) else v for name, v in data.items()} for data in kept]
    ids = ", ".join(str(name) for data in kept for name in data.get("ids", ())) or "unknown"
    file = folder / f"bad_batch_{step}_{get_rank()}.pt"
    try:
        torch.save(kept if isinstance(batch, list) else kept[0], file)
        where = f"the batch is kept in {file.name}"
    except OSError as unwritten:
        where = f"the batch cannot be kept ({unwritten.strerror})"
    return TrainingError(
        f"the loss is {fault.value} in iteration {step} on process {get_rank()}, records {ids}: nothing was updated "
        f"with it; {where}; lower the learning rate, look at these records, or let some pass with "
        "train_cfg.skip_bad_batches"
    )


def nothing_to_learn(model: nn.Module) -> Tensor:
    """A loss of zero that reaches every trained weight, so that all processes go through the same gradients.

    Raises TrainingError under ZeRO-3, which has none of them whole.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if any(hasattr(weight, "ds_id") for weight in trained):
        raise TrainingError("train_cfg.skip_bad_batches cannot be had with ZeRO-3: take --deepspeed zero2")
    total: Tensor = torch.stack([weight.float().sum() for weight in trained]).sum() * 0.0
    return total


def not_finite(named: Iterable[tuple[str, Tensor]]) -> Iterator[str]:
    """The names of weights that hold what is no finite number; of those that ZeRO-3 has cut up, this process's part."""
    for name, weight in named:
        held = getattr(weight, "ds_tensor", weight)
        if held.is_floating_point() and held.numel() and not bool(torch.isfinite(held).all()):
            yield name


def require_finite(model: nn.Module, when: str, *, trained: bool = True) -> None:
    """Stop all processes when a weight of any is no finite number.

    Args:
        model: whose weights.
        when: for the message.
        trained: only those that are trained; others change no more once they have been looked at.

    Raises:
        TrainingError: names the first of them.
    """
    named = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad or not trained)
    bad = list(not_finite(named))
    if not on_any_process(bool(bad)):
        return
    names = ", ".join(bad[:_SHOWN]) + (f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else "")
    raise TrainingError(f"{when}, weights are not finite: {names or 'on another process'}")


class SoundWeights(Hook):
    """Look at all weights when a training begins, and at the trained ones when it has ended.

    What is wrong with them then is the base's, the projector's or the checkpoint's fault; else it shows as a bad loss.
    """

    priority = "LOW"

    def before_train(self, runner: Any) -> None:
        """Of the base, the projector and what was resumed."""
        require_finite(unwrapped(runner.model), "as loaded", trained=False)

    def after_train(self, runner: Any) -> None:
        """After the last update, which no loss has seen."""
        require_finite(unwrapped(runner.model), "after the last step")


class Learning(Hook):
    """Warn when, after some steps, an adapter has not moved or the loss has not.

    Args:
        steps: iterations after which it looks, once.
    """

    priority = "LOW"

    def __init__(self, steps: int = 50) -> None:
        self.steps = steps
        self.losses: list[float] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the loss; look when it is time."""
        if len(self.losses) >= self.steps:
            return
        if outputs and "loss" in outputs:
            self.losses.append(float(outputs["loss"]))
        if len(self.losses) < self.steps or not is_main_process():
            return
        still = list(unmoved(unwrapped(runner.model)))
        if still:
            names = ", ".join(still[:_SHOWN]) + (f" and {len(still) - _SHOWN} more" if len(still) > _SHOWN else "")
            note(
                f"warning: after {self.steps} iterations these adapters are as they began, without a gradient: {names}"
            )
        if max(self.losses) - min(self.losses) <= 1e-6 * abs(self.losses[0]):
            note(f"warning: the loss has been {self.losses[0]:g} for {self.steps} iterations: nothing is learnt")


def unmoved(model: nn.Module) -> Iterator[str]:
    """The adapters whose B is still zero: it starts so, and the first step with a gradient moves it."""
    for name, weight in model.named_parameters():
        if ".lora_B." in name and weight.requires_grad:
            held = getattr(weight, "ds_tensor", weight)
            if held.numel() and not bool(held.any()):
                yield name.partition(".lora_B.")[0]
