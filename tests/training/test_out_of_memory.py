"""Memory that ran out, in each form that it comes in."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys

import pytest
import torch

from moslora_xtuner.training.out_of_memory import is_out_of_memory, told


@pytest.mark.parametrize(
    ("fault", "out"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_known_in_each_form(fault: Exception, out: bool) -> None:
    assert is_out_of_memory(fault) is out


def test_torchs_own_allocator_and_numpys_are_known() -> None:
    """What they really raise, in a process that may have 4 GiB."""
    script = """
import numpy, torch
from moslora_xtuner.training.out_of_memory import is_out_of_memory
for allocate in (lambda: torch.empty(8 * 2**30), lambda: numpy.ones(8 * 2**30), lambda: bytearray(2**35)):
    try:
        allocate()
    except Exception as fault:
        assert is_out_of_memory(fault), repr(fault)
    else:
        raise SystemExit("it was had")
"""
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2),
    )


def test_what_the_step_had_is_told() -> None:
    batch = {"data": {"input_ids": torch.zeros(4, 700, dtype=torch.long), "pixel_values": torch.zeros(3, 3, 2, 2)}}
    said = str(told(torch.OutOfMemoryError("CUDA out of memory.\nTried"), batch, 7, 1))
    assert said.startswith(
        "out of memory in iteration 7 on process 1 with 4 records x 700 places = 2,800, 3 pictures "
        "(OutOfMemoryError: CUDA out of memory.): take a smaller --batch-size"
    )
    small = {"data": {"input_ids": torch.zeros(1, 9, dtype=torch.long)}}
    assert "the largest of 2 micro-batches, 4 records x 700 places" in str(told(MemoryError(), [small, batch], 7, 0))
    assert "a batch of unknown size (MemoryError)" in str(told(MemoryError(), {"other": 1}, 1, 0))
