"""What a machine must have for a reproduction, a line for each thing that is missing; and how they are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from moslora_xtuner.errors import MoSLoRAError, SetupError
from moslora_xtuner.llm.weights import Weights
from moslora_xtuner.training.plan.checkpoints import local_config


def model(variable: str, source: str) -> Iterator[str]:
    """A checkpoint that is not on this machine, or not whole."""
    where = os.environ[variable]
    try:
        local_config(where)
        Weights(where, local_files_only=True)
    except MoSLoRAError as fault:
        yield f"{variable}={where}: {fault} (source: {source})"


def gpus(wanted: int) -> Iterator[str]:
    """GPUs that were asked for."""
    import torch

    if wanted > (here := torch.cuda.device_count()):
        yield f"{wanted} GPUs are asked for, this machine has {here}: give --gpus, or start on another machine"


def tables(variable: str, root: Path, names: Iterable[str], source: str) -> Iterator[str]:
    """Tables of questions that a folder lacks."""
    if missing := [name for name in names if not (root / f"{name}.tsv").is_file()]:
        yield f"{variable}={root} lacks {', '.join(f'{name}.tsv' for name in missing)}: {source}"


def tell(look: Iterator[str]) -> None:
    """Print everything that a look finds missing, in one list.

    Raises:
        SystemExit: with 3 where anything is, or as the fault says that ends the look.
    """
    try:
        found = list(look)
    except MoSLoRAError as fault:
        print(f"error: {fault}", file=sys.stderr)
        raise SystemExit(fault.exit_code) from None
    if found:
        print("\n".join(f"missing: {line}" for line in found), file=sys.stderr)
        print(
            f"error: {len(found)} of the things needed are missing, named above: nothing was started", file=sys.stderr
        )
        raise SystemExit(SetupError.exit_code)
