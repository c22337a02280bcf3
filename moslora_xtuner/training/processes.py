"""How many processes a launch starts, counted alike by the plan and by the training."""

from __future__ import annotations

import os

from ..errors import ConfigError, UsageError


def default_processes() -> int:
    """One process a GPU; without a GPU two, or one on a single core."""
    import torch

    return torch.cuda.device_count() or min(2, os.cpu_count() or 1)


def processes_for(gpus: int | None, processes: int | None) -> int:
    """How many processes to start: one for each GPU asked for, or as many as said on a machine without any.

    Raises:
        ConfigError: fewer GPUs are here than asked for; NNODES says that other machines take part.
        UsageError: both were given.
    """
    import torch

    if os.environ.get("NNODES", "1") != "1":
        raise ConfigError(
            f"NNODES is {os.environ['NNODES']}: `moslora train` starts the processes of one machine; for several start "
            "`xtuner train` on each (docs/recipes.md, Launch), or unset it"
        )
    here = torch.cuda.device_count()
    if gpus is None:
        return processes or default_processes()
    if processes is not None:
        raise UsageError("give --gpus or --processes: it is one process a GPU")
    if gpus > here:
        raise ConfigError(
            f"{gpus} GPUs are asked for, this machine has {here}: ask for fewer"
            + ("" if here else ", or leave --gpus out to train on the CPU")
        )
    return gpus


def require_deepspeed(deepspeed: str | None, processes: int) -> None:
    """Stop what mmengine cannot do: several processes on a CPU without DeepSpeed.

    Raises:
        ConfigError: that was asked for.
    """
    import torch

    if deepspeed is None and processes > 1 and not torch.cuda.is_available():
        raise ConfigError(SEVERAL_ON_CPU)


SEVERAL_ON_CPU = "several processes without DeepSpeed need GPUs (mmengine): take --deepspeed zero2, or --processes 1"
