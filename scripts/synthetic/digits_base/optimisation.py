"""Muon and AdamW together, and gradients averaged over the processes."""

from __future__ import annotations

import torch
from torch import nn

MUON = 2.0
"""Muon's rate as a multiple of AdamW's."""


class Optimizers:
    """Muon on the matrices inside, AdamW on embeddings, head, norms and biases."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        outside = ("embed", "lm_head", "heads")
        learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        inner = [p for n, p in learned if p.ndim == 2 and not any(word in n for word in outside)]
        rest = [p for n, p in learned if p.ndim != 2 or any(word in n for word in outside)]
        self.parts = [
            (torch.optim.Muon(inner, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), rate * MUON),
            (torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True), rate),
        ]

    def step(self, share: float) -> None:
        """One step at this share of the peak rates, and the gradients cleared."""
        for optimizer, peak in self.parts:
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def average_gradients(model: nn.Module) -> None:
    """The mean of the processes' gradients; one that a process does not have counts as zero."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch._utils._flatten_dense_tensors(grads)
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for parameter, grad in zip(parameters, torch._utils._unflatten_dense_tensors(flat, grads), strict=True):
        parameter.grad = grad
