"""The fused branch against derivatives by finite differences, against the same written out, and what it keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from moslora_xtuner.adapters.branch import LowRankBranch, Mixing, cheapest

WITH_M = (Mixing.BETWEEN, Mixing.INTO_A, Mixing.INTO_B)
D1, D2, R = 6, 5, 4


def drawn(dtype: torch.dtype = torch.float64, rows: tuple[int, ...] = (2, 3)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"result": (*rows, D2), "x": (*rows, D1), "a": (R, D1), "m": (R, R), "b": (D2, R)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for name, shape in shapes.items()
    }


def branch(given: dict[str, Tensor], mixing: Mixing, dropout: float = 0.0, in_place: bool = False) -> Tensor:
    m = given["m"] if mixing in WITH_M else None
    result = given["result"] * 1  # a leaf cannot be written into
    return LowRankBranch.apply(result, given["x"], given["a"], m, given["b"], 1.5, dropout, mixing, in_place)


def written_out(given: dict[str, Tensor], mixing: Mixing, dropout: float = 0.0) -> Tensor:
    """The same by autograd alone: s B(M(A x)), with the butterfly [[I, I], [I, I]] as a matrix."""
    hidden = F.dropout(given["x"], dropout) @ given["a"].T
    if mixing is Mixing.HALVES:
        hidden = hidden @ torch.eye(R // 2, dtype=hidden.dtype).repeat(2, 2).T
    elif mixing in WITH_M:
        hidden = hidden @ given["m"].T
    return given["result"] + 1.5 * (hidden @ given["b"].T)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("mixing", Mixing)
def test_gradients_are_those_of_finite_differences(mixing: Mixing, dropout: float, in_place: bool) -> None:
    given = drawn()

    def run(*leaves: Tensor) -> Tensor:
        torch.manual_seed(5)  # the same mask for every difference
        return branch(dict(zip(given, leaves, strict=True)), mixing, dropout, in_place)

    assert torch.autograd.gradcheck(run, tuple(given.values()))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("mixing", Mixing)
def test_value_and_gradients_are_those_of_the_operations_written_out(mixing: Mixing, dropout: float) -> None:
    """Dropout draws the same numbers, and both directions leave the generator where F.dropout leaves it."""
    upstream = torch.randn(2, 3, D2, dtype=torch.float64)
    made: list[tuple[Tensor, list[Any], Tensor]] = []
    for way in (branch, written_out):
        given = drawn()
        torch.manual_seed(11)
        value = way(given, mixing, dropout)
        value.backward(upstream)
        made.append((value, [leaf.grad for leaf in given.values()], torch.rand(4)))
    (value, gradients, after), (wanted, wanted_gradients, wanted_after) = made
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients, wanted_gradients, rtol=1e-12, atol=1e-12)
    assert torch.equal(after, wanted_after)


@pytest.mark.parametrize("frozen", ["x", "a", "m", "b", "result"])
@pytest.mark.parametrize("mixing", Mixing)
def test_what_is_frozen_gets_no_gradient_and_changes_no_other(mixing: Mixing, frozen: str) -> None:
    gradients = []
    for names in ((), (frozen,)):
        given = drawn()
        for name in names:
            given[name].requires_grad_(False)
        branch(given, mixing).square().sum().backward()
        gradients.append({name: leaf.grad for name, leaf in given.items()})
    whole, part = gradients
    assert part.pop(frozen) is None
    torch.testing.assert_close(part, {name: whole[name] for name in part}, rtol=0, atol=0)


@pytest.mark.parametrize(("mixing", "width"), [(Mixing.INTO_B, R), (Mixing.BETWEEN, R), (Mixing.HALVES, R // 2)])
def test_keeps_x_itself_one_narrow_product_and_the_masks_bits(mixing: Mixing, width: int) -> None:
    kept: list[Tensor] = []
    given = drawn(torch.float32, (50, 20))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda t: t):
        branch(given, mixing, dropout=0.1)
    leaves = {leaf.data_ptr() for leaf in given.values()}
    own = [tensor for tensor in kept if tensor.data_ptr() not in leaves]
    assert [tuple(tensor.shape) for tensor in own] == [(50 * 20, width), (50 * 20 * D1 // 8,)]
    assert given["x"].data_ptr() in {tensor.data_ptr() for tensor in kept}


def test_in_place_writes_into_the_frozen_layers_output() -> None:
    given = drawn()
    result = given["result"].detach().clone()
    y = LowRankBranch.apply(result, given["x"], given["a"], None, given["b"], 1.5, 0.0, Mixing.NONE, True)
    assert y.data_ptr() == result.data_ptr()
    torch.testing.assert_close(y, written_out(given, Mixing.NONE))


def test_the_mask_differs_from_call_to_call() -> None:
    given = drawn()
    torch.manual_seed(0)
    assert not torch.equal(branch(given, Mixing.NONE, 0.5), branch(given, Mixing.NONE, 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mixing", Mixing)
def test_half_precision_stays_at_its_rounding(mixing: Mixing, dtype: torch.dtype) -> None:
    made = []
    for kind in (dtype, torch.float64):
        given = {name: leaf.detach().to(dtype).to(kind).requires_grad_() for name, leaf in drawn().items()}
        value = branch(given, mixing) if kind == dtype else written_out(given, mixing)
        value.backward(torch.ones_like(value))
        made.append([value, *(leaf.grad for leaf in given.values() if leaf.grad is not None)])
    for found, wanted in zip(*made, strict=True):
        assert found.dtype == dtype
        assert (found.double() - wanted).norm() <= 4 * torch.finfo(dtype).eps * wanted.norm()


@pytest.mark.parametrize(
    ("tokens", "d1", "d2", "place"),
    [
        (5000, 4096, 1024, Mixing.INTO_B), (5000, 4096, 4096, Mixing.INTO_B), (5000, 1024, 4096, Mixing.INTO_A),
        (900, 4096, 1024, Mixing.BETWEEN), (1, 8, 8, Mixing.BETWEEN),
    ],
)  # fmt: skip
def test_the_matrix_goes_where_it_costs_least(tokens: int, d1: int, d2: int, place: Mixing) -> None:
    """T r^2 between the products, r^2 d folded into a factor of width d."""
    cost = {Mixing.BETWEEN: tokens, Mixing.INTO_A: d1, Mixing.INTO_B: d2}
    assert cheapest(tokens, d1, d2) is place
    assert cost[place] == min(cost.values())
