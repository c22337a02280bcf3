"""ZeRO-1 and ZeRO-2's optimiser states, cut for another number of processes.

Each process holds one part of all trained weights of a parameter group, laid end to end: with T numbers and N
processes, parts of ceil(T / (2 N)) 2, the last ones filled up. Cutting them anew moves numbers and changes none.

Source: `DeepSpeedZeroOptimizer` of DeepSpeed 0.17.5 (runtime/zero/stage_1_and_2.py).
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import TrainingError

ALIGNMENT = 2
"""`nccl_start_alignment_factor`: each part begins at a multiple of so many numbers."""
FP32, BASE, PADDINGS, COUNT, SLICES = (
    "single_partition_of_fp32_groups",
    "base_optimizer_state",
    "group_paddings",
    "partition_count",
    "param_slice_mappings",
)


def part_size(numbers: int, processes: int) -> int:
    """Of how many numbers a process's part is."""
    whole = ALIGNMENT * processes
    return -(-numbers // whole) * ALIGNMENT


def recut(states: Sequence[Mapping[str, Any]], shapes: Sequence[Mapping[str, Any]], processes: int) -> list[Any]:
    """The optimiser states of `processes`, from those of all processes that there were.

    Args:
        states: `optimizer_state_dict` of each process, in their order.
        shapes: `param_shapes` of the model's states: the shape of each weight of each group, in their order.
        processes: how many there will be.

    Raises:
        TrainingError: they are not of ZeRO-1 or ZeRO-2, or do not fit together.
    """
    first = states[0]
    if FP32 not in first or not isinstance(first.get(BASE), Mapping):
        raise TrainingError("the optimiser's states are not of ZeRO-1 or ZeRO-2: they cannot be cut anew")
    made = [copy.copy(dict(first)) for _ in range(processes)]
    for state in made:
        state[FP32], state[PADDINGS], state[SLICES] = [], [], []
        state[COUNT] = [processes] * len(first[FP32])
        state[BASE] = {**first[BASE], "state": {}}
    for group, names in enumerate(shapes):
        whole = torch.cat([state[FP32][group] for state in states])
        total, size = len(whole), part_size(len(whole), processes)
        if total != sum(_numbers(shape) for shape in names.values()):
            raise TrainingError(f"group {group} has {total} numbers, its weights have another count")
        values = _joined([state[BASE]["state"].get(group, {}) for state in states], total)
        for rank, state in enumerate(made):
            lean = whole[rank * size : (rank + 1) * size].clone()
            state[FP32].append(lean)
            state[PADDINGS].append(size - len(lean))
            state[SLICES].append(_slices(names, rank * size, (rank + 1) * size))
            state[BASE]["state"][group] = {
                name: _padded(value[rank * size : (rank + 1) * size], size) if value.ndim else value
                for name, value in values.items()
            }
    return made


def _joined(states: Sequence[Mapping[str, Tensor]], total: int) -> dict[str, Tensor]:
    """What the optimiser keeps of each number, of all processes; a count of steps as it is."""
    return {
        name: torch.cat([state[name] for state in states])[:total] if value.ndim else value
        for name, value in states[0].items()
    }


def _padded(part: Tensor, size: int) -> Tensor:
    return torch.cat([part, part.new_zeros(size - len(part))])


def _slices(names: Mapping[str, Any], begin: int, end: int) -> OrderedDict[str, Any]:
    """Where in a part each weight, or the piece of it that is there, stands."""
    from deepspeed.utils.tensor_fragment import fragment_address

    found: OrderedDict[str, Any] = OrderedDict()
    at = 0
    for name, shape in names.items():
        after = at + _numbers(shape)
        if max(at, begin) < min(after, end):
            found[name] = fragment_address(start=max(at, begin) - begin, numel=min(after, end) - max(at, begin))
        at = after
    return found


def _numbers(shape: Any) -> int:
    return int(torch.Size(shape).numel())
