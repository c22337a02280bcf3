"""What every config imports first: `custom_imports = dict(imports=["moslora_xtuner.plugin"])`.

It checks the versions, gives `--deepspeed zero2` and `zero3` their meaning, and holds, each in one marked place, the
work-arounds that XTuner 0.2.0 and mmengine 0.10.6 need. XTuner loads the config before it looks a DeepSpeed name
up and before it starts the process group, which is why all of this comes in time.
"""

from __future__ import annotations

import argparse
import importlib
import os
import socket
import sys
from typing import Any

import torch

from . import adapters  # noqa: F401  (registers the adapter with PEFT)
from .errors import ConfigError
from .llm.quantise_on_cpu import quantise_on_cpu
from .training.checkpoints.resume import choose_by_marks
from .training.checkpoints.trust import run_no_code_of_checkpoints
from .training.deepspeed import NAMES, deepspeed_file
from .training.run_folder import begin_in_own_folder
from .versions import check_versions


def has_gpu() -> bool:
    """Whether there is a CUDA device to train on."""
    return torch.cuda.is_available()


def register_deepspeed_names() -> None:
    """Make `zero2` and `zero3` names that XTuner's `--deepspeed` finds; without a GPU the variants for gloo."""
    from xtuner.configs import cfgs_name_path

    for name in NAMES:
        cfgs_name_path[name] = str(deepspeed_file(name, has_gpu()))


def train_on_cpu() -> None:
    """WORK-AROUND mmengine 0.10.6, xtuner 0.2.0: neither trains without a GPU.

    `mmengine.dist.utils._init_dist_pytorch` calls `torch.cuda.set_device` and takes nccl; xtuner's llava.py asks
    for `torch.cpu.is_bf16_supported`, which torch does not have. Can go when mmengine picks the backend by device.
    """
    import mmengine.dist.utils as dist

    if not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda: False  # type: ignore[attr-defined]

    def init_gloo(backend: str, init_backend: str = "torch", **options: Any) -> None:
        if init_backend == "deepspeed":
            import deepspeed

            deepspeed.init_distributed(dist_backend="gloo", **options)
        else:
            torch.distributed.init_process_group(backend="gloo", **options)

    dist._init_dist_pytorch = init_gloo


def finish_each_gather() -> None:
    """WORK-AROUND deepspeed 0.17 with gloo: under ZeRO-3 it waits for the last of several gathers alone.

    `Init._allgather_params_coalesced` (runtime/zero/partition_parameters.py) relies on the order of a CUDA stream;
    gloo's threads finish in any order, and weights were read before they had arrived. Can go when it waits for all.
    """
    import deepspeed.comm

    gather = deepspeed.comm.all_gather_into_tensor

    def gather_at_once(*tensors: Any, **options: Any) -> Any:
        handle = gather(*tensors, **options)
        if handle is not None:
            handle.wait()
        return handle

    deepspeed.comm.all_gather_into_tensor = gather_at_once


def compile_nothing() -> None:
    """WORK-AROUND deepspeed 0.17 on a CPU: at a start it compiles an extension that training never calls.

    `TorchBackend.__init__` (comm/torch.py) builds deepspeed_shm_comm, which serves `inference_all_reduce` alone. That
    takes both cores of a small machine for half a minute, needs a compiler, happens again whenever paths or flags
    differ, and a start that is killed meanwhile leaves a lock for which all later ones wait without a word. Can go
    when it is built at its first use.
    """
    # Not `import deepspeed.comm.torch`: under that name the package has torch itself.
    backend = importlib.import_module("deepspeed.comm.torch")
    backend.build_shm_op = lambda: None  # type: ignore[attr-defined]


def option(name: str) -> str | None:
    """The value of an option of this process's command line, in each way that argparse takes; None without it.

    `--deepspeed zero2`, `--deepspeed=zero2`, and a beginning of the name, `--deepsp zero2`.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument(name, dest="value", nargs="?", const="")
    try:
        value: str | None = parser.parse_known_args(sys.argv[1:])[0].value
    except argparse.ArgumentError:
        return None
    return value


def describe_single_process() -> None:
    """WORK-AROUND deepspeed 0.17: one process without torchrun makes it look for mpi4py.

    Set what torchrun would set. Can go when DeepSpeed takes a single process as it is.
    """
    if option("--deepspeed") is None or "WORLD_SIZE" in os.environ or option("--launcher") not in (None, "none"):
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def require_one_launcher() -> None:
    """Stop a launch in which slurm and torchrun both start processes.

    `xtuner train` looks for `--launcher slurm` in two words; spelled otherwise it starts torchrun besides, once for
    each of slurm's tasks, when NPROC_PER_NODE is more than 1.

    Raises:
        ConfigError: it is so.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--launcher", action="append")
    try:
        said = parser.parse_known_args(sys.argv[1:])[0].launcher or []
    except argparse.ArgumentError:
        return
    if len(set(said)) > 1 and "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError(
            f"--launcher is given as {' and '.join(said)}, and torchrun was started: write `--launcher slurm` in two "
            "words, with NPROC_PER_NODE unset"
        )


check_versions()
require_one_launcher()
register_deepspeed_names()
describe_single_process()
run_no_code_of_checkpoints()
choose_by_marks()
begin_in_own_folder()
if not has_gpu():
    train_on_cpu()
    quantise_on_cpu()
    finish_each_gather()
    compile_nothing()
