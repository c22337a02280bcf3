"""The chunked loss is the plain one: loss and gradients, by the formula in float64 and by Hugging Face's own loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers.loss.loss_utils import ForCausalLMLoss

from moslora_xtuner.training import loss_head
from moslora_xtuner.training.loss_head import chunked_loss


def case(
    dtype: torch.dtype, rows: int = 3, length: int = 11, width: int = 8, words: int = 29
) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, length, width, generator=draw, dtype=torch.float64)
    weight = torch.randn(words, width, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, words, (rows, length), generator=draw)
    labels[torch.rand(rows, length, generator=draw) < 0.6] = -100
    labels[:, 0] = 5  # predicted by nothing, so it never counts
    return hidden.to(dtype), weight.to(dtype), labels


def head_of(weight: torch.Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    head.weight = nn.Parameter(weight, requires_grad=False)
    return head


@pytest.mark.parametrize("logits", [29, 29 * 4, 2**26])
def test_by_the_formula(logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the chunks: the sum over labelled places of logsumexp minus the label's logit, over their number."""
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", logits)
    hidden, weight, labels = case(torch.float64)
    wanted, count, grad = 0.0, 0, torch.zeros_like(hidden)
    for row in range(labels.shape[0]):
        for place in range(labels.shape[1] - 1):
            target = int(labels[row, place + 1])
            if target != -100:
                scores = weight @ hidden[row, place]
                wanted += float(scores.exp().sum().log() - scores[target])
                chances = scores.exp() / scores.exp().sum()
                chances[target] -= 1
                grad[row, place] = weight.T @ chances
                count += 1
    hidden.requires_grad_()
    loss = chunked_loss(hidden, labels, head_of(weight))
    loss.backward()
    assert float(loss) == pytest.approx(wanted / count, rel=1e-12)
    assert hidden.grad is not None
    assert torch.allclose(hidden.grad, grad / count, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_as_hugging_face(dtype: torch.dtype, within: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", 29 * 3)
    hidden, weight, labels = case(dtype)
    head = head_of(weight)
    stock = hidden.clone().requires_grad_()
    wanted = ForCausalLMLoss(head(stock), labels, vocab_size=29)
    wanted.backward()
    ours = hidden.clone().requires_grad_()
    loss = chunked_loss(ours, labels, head)
    loss.backward()
    assert float(loss) == pytest.approx(float(wanted), rel=within)
    assert stock.grad is not None
    assert ours.grad is not None
    gap = (ours.grad.double() - stock.grad.double()).norm() / stock.grad.double().norm()
    assert float(gap) < within


def test_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", 29 * 2)
    hidden, weight, labels = case(torch.float64, rows=2, length=5)
    assert torch.autograd.gradcheck(lambda h: chunked_loss(h, labels, head_of(weight)), hidden.requires_grad_())


def test_without_a_gradient_none_is_formed() -> None:
    hidden, weight, labels = case(torch.float32)
    with torch.no_grad():
        assert math.isfinite(float(chunked_loss(hidden, labels, head_of(weight))))


def test_no_label_at_all_is_not_a_number() -> None:
    hidden, weight, labels = case(torch.float32)
    assert math.isnan(float(chunked_loss(hidden, torch.full_like(labels, -100), head_of(weight))))


def test_a_trained_head_is_refused() -> None:
    hidden, weight, labels = case(torch.float32)
    with pytest.raises(ValueError, match="head is trained"):
        chunked_loss(hidden, labels, head_of(weight).requires_grad_())


def test_memory_does_not_grow_with_the_places() -> None:
    """The largest tensor that is made holds CHUNK_LOGITS numbers, also where all places have labels."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            sizes = [leaf.untyped_storage().nbytes() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            largest = max([largest, *sizes])
            return result

    hidden, weight, labels = case(torch.float32, rows=8, length=400, words=1000)
    labels = labels.clamp(min=0)
    with pytest.MonkeyPatch.context() as patch, Largest():
        patch.setattr(loss_head, "CHUNK_LOGITS", 50_000)
        chunked_loss(hidden.requires_grad_(), labels, head_of(weight)).backward()
    assert largest <= 4 * 50_000
