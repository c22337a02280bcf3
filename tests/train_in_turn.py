"""Several trainings in one start of processes, each by XTuner's own program: what they import is imported once.

As a program, `python tests/train_in_turn.py RUNS.json`, on each process; `train_in_turn` starts it. Only for what a
start of its own would not show: real launches are tested in tests/training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One training: a recipe's name, its folder, options, and what `--deepspeed` says."""

    name: str
    out: Path
    options: Sequence[str] = field(default=())
    deepspeed: str | None = None


def train_in_turn(runs: Sequence[Run], folder: Path, environment: Mapping[str, str], processes: int = 1) -> None:
    """Train one after the other; the first that fails ends it.

    With DeepSpeed the processes meet on gloo; runs with ZeRO-3 belong into a start of their own, since it changes how
    models load for the rest of a process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed = [{**asdict(run), "out": str(run.out), "options": list(run.options)} for run in runs]
    (folder / "runs.json").write_text(json.dumps(listed))
    launcher = [sys.executable]
    if any(run.deepspeed for run in runs):
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [*launcher, str(Path(__file__).resolve()), str(folder / "runs.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-12000:]


def main() -> None:
    """What each process does."""
    from mmengine.registry import OPTIMIZERS
    from xtuner.tools import train as program

    from moslora_xtuner.recipes.catalogue import resolve_config

    for run in json.loads(Path(sys.argv[1]).read_text()):
        words = [str(resolve_config(run["name"])), "--work-dir", run["out"]]
        if run["deepspeed"]:
            words += ["--deepspeed", run["deepspeed"], "--launcher", "pytorch"]
        sys.argv[1:] = [*words, "--cfg-options", *run["options"]]
        program.main()
        # mmengine registers DeepSpeed's optimisers for each training, and refuses the second time.
        for name, optimiser in [*OPTIMIZERS.module_dict.items()]:
            if optimiser.__module__.startswith("deepspeed."):
                del OPTIMIZERS.module_dict[name]


if __name__ == "__main__":
    main()
