"""The loss without the logits of the whole batch: only places that carry a label are projected, some at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..data.tokens.tokenise import IGNORE_INDEX

SUMMED_LOSS = "summed_loss"
"""The mode of a model's forward that gives sum and number of the losses alone (training/validation)."""
CHUNK_LOGITS = 2**26
"""Logits that live at once: 256 MiB in float32, 523 places of LLaMA-3's vocabulary."""


def labelled(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The states that predict a label, (n, H), and those labels, (n,): place t predicts what stands at t + 1."""
    targets = labels[:, 1:]
    there = targets != IGNORE_INDEX
    return hidden[:, :-1][there], targets[there]


def chunked_loss(hidden: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    """The mean cross entropy of a frozen head over the labelled places, as Hugging Face's models compute it.

    With h_t a state, y_t the label that it predicts, n their number and the head's logits in float32::

        loss = 1 / n  sum_t  ( logsumexp(head(h_t)) - head(h_t)[y_t] )

    Its gradient for h is formed in forward, chunk by chunk, since the head itself has none: no logits are kept and
    none computed twice.

    Args:
        hidden: (rows, length, H), the last decoder layer's output after the norm.
        labels: (rows, length), IGNORE_INDEX where there is none.
        head: H to the vocabulary; quantised or tied ones too, as it is called like any module.

    Raises:
        ValueError: the head is trained: its gradient would be lost.
    """
    if is_trained(head):
        raise ValueError("the head is trained: chunked_loss gives it no gradient")
    states, targets = labelled(hidden, labels)
    if not len(targets):
        return hidden.sum() * float("nan")  # as the mean over nothing; the training stops at it
    return _ChunkedLoss.apply(states, targets, head) / len(targets)


def is_trained(head: nn.Module) -> bool:
    """Whether any of the head's weights wants a gradient."""
    return any(weight.requires_grad for weight in head.parameters())


class _ChunkedLoss(torch.autograd.Function):
    """The sum of the losses; keeps the gradient for the states, (n, H), and nothing else."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
        total = torch.zeros((), dtype=torch.promote_types(states.dtype, torch.float32), device=states.device)
        grads = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        start, size = 0, 1  # the first state alone says how many logits there are
        while start < len(targets):
            places = slice(start, start + size)
            with torch.enable_grad():
                piece = states[places].detach().requires_grad_(grads is not None)
                logits = head(piece)
            loss, grad = _cross_entropy(logits, targets[places], total.dtype, own=type(head) is nn.Linear)
            if grads is not None:
                logits.backward(grad.to(logits.dtype))  # the piece is the only leaf: the head is frozen
                assert piece.grad is not None
                grads[places] = piece.grad
            total += loss
            start, size = start + size, max(1, CHUNK_LOGITS // logits.shape[-1])
        if grads is not None:
            ctx.save_for_backward(grads)
        return total

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> tuple[Tensor, None, None]:
        (grads,) = ctx.saved_tensors
        return (grads * grad[0]).to(grads.dtype), None, None


def _cross_entropy(logits: Tensor, targets: Tensor, dtype: torch.dtype, own: bool) -> tuple[Tensor, Tensor]:
    """The sum of the losses and its gradient softmax - 1 at the target, (n, V), in one piece of memory.

    Args:
        own: whether the logits' own memory may be taken, where it has the dtype: nothing has kept them for backward.
    """
    made = logits.detach().to(dtype, copy=not own)
    made -= made.amax(-1, keepdim=True)
    picked = made.gather(1, targets[:, None])
    scale = made.exp_().sum(-1, keepdim=True)
    loss = (scale.log() - picked).sum()
    return loss, made.div_(scale).scatter_add_(1, targets[:, None], made.new_full((len(targets), 1), -1))
