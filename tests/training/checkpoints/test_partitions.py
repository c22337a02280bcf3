"""ZeRO-2's states cut anew: every number where DeepSpeed's own layout has it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.checkpoints.partitions import part_size, recut

Shapes = list[dict[str, torch.Size]]


def states_of(shapes: Shapes, processes: int) -> list[dict[str, Any]]:
    """What `processes` would write whose weights are 1, 2, 3, ... and moments 10 and 100 times as much."""
    from deepspeed.utils.tensor_fragment import fragment_address

    made: list[dict[str, Any]] = [
        {
            "single_partition_of_fp32_groups": [], "group_paddings": [], "param_slice_mappings": [],
            "partition_count": [processes] * len(shapes), "zero_stage": 2, "overflow": False,
            "base_optimizer_state": {"state": {}, "param_groups": [{"lr": 0.5}]},
        }
        for _ in range(processes)
    ]  # fmt: skip
    for group, names in enumerate(shapes):
        total = sum(shape.numel() for shape in names.values())
        size = -(-total // (2 * processes)) * 2
        flat = torch.cat([torch.arange(1.0, total + 1), torch.zeros(size * processes - total)])
        owner = [name for name, shape in names.items() for _ in range(shape.numel())]
        for rank, state in enumerate(made):
            part = flat[rank * size : (rank + 1) * size]
            padding = min(size, max(0, (rank + 1) * size - total))
            state["single_partition_of_fp32_groups"].append(part[: size - padding])
            state["group_paddings"].append(padding)
            mine = owner[rank * size : (rank + 1) * size]
            state["param_slice_mappings"].append(
                OrderedDict(
                    (n, fragment_address(numel=mine.count(n), start=mine.index(n))) for n in dict.fromkeys(mine)
                )
            )
            state["base_optimizer_state"]["state"][group] = {
                "step": torch.tensor(6.0), "exp_avg": part * 10, "exp_avg_sq": part * 100,
            }  # fmt: skip
    return made


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


@given(
    groups=st.lists(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=2), min_size=1, max_size=5), min_size=1,
                    max_size=2),
    before=st.integers(1, 5),
    after=st.integers(1, 5),
)  # fmt: skip
def test_as_so_many_processes_would_have_written_it(groups: list[list[list[int]]], before: int, after: int) -> None:
    shapes = [{f"g{g}.w{n}": torch.Size(shape) for n, shape in enumerate(names)} for g, names in enumerate(groups)]
    assert same(recut(states_of(shapes, before), shapes, after), states_of(shapes, after))


@pytest.mark.parametrize(("numbers", "processes", "size"), [(39488, 2, 19744), (39488, 1, 39488), (7, 2, 4), (1, 4, 2)])
def test_a_parts_size(numbers: int, processes: int, size: int) -> None:
    assert part_size(numbers, processes) == size


def test_what_is_not_of_zero_1_or_2_is_refused() -> None:
    shapes: Shapes = [{"w": torch.Size([4])}]
    with pytest.raises(TrainingError, match="not of ZeRO-1 or ZeRO-2"):
        recut([{"fp32_flat_groups": []}], shapes, 2)
    with pytest.raises(TrainingError, match="has 4 numbers, its weights have another count"):
        recut(states_of(shapes, 2), [{"w": torch.Size([5])}], 1)
