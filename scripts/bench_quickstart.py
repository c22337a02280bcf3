"""Time and peak memory of a whole quickstart, with the scores it came to.

    python scripts/bench_quickstart.py -o runs/bench --write docs/results

Memory is what the command and its children hold alone, summed once a second, and the largest of their shared
parts (libraries), which the others map too. The limits that the project promises are 10 minutes and 6 GB on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

import psutil
from moslora_xtuner.eval import scores

from moslora_xtuner.versions import installed_versions


def tree_memory(process: psutil.Process) -> int:
    """Bytes in memory of a process and all below it; those that have just ended count as nothing."""
    own, shared = 0, [0]
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            info = one.memory_info()
            own += info.rss - info.shared
            shared.append(info.shared)
    return own + max(shared)


def measure(command: list[str]) -> tuple[float, int]:
    """Seconds and peak bytes of a command.

    Raises:
        SystemExit: the command failed; with its status.
    """
    start, peak = time.monotonic(), 0
    with subprocess.Popen(command) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak = max(peak, tree_memory(process))
            except psutil.NoSuchProcess:
                break
            time.sleep(1)
    if child.returncode:
        raise SystemExit(child.returncode)
    return time.monotonic() - start, peak


def main() -> None:
    """Run quickstart and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="quickstart's folder; must not exist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="folder for quickstart.json")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists: steps that are done already would not be measured")
    command = [sys.executable, "-m", "moslora_xtuner", "quickstart", "-o", str(args.out), "--seed", str(args.seed)]
    seconds, peak = measure(command)
    runs = sorted(path.parent for path in (args.out / "eval").glob("*/scores.json"))
    measured = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, no GPU",
        "versions": installed_versions(),
        "seed": args.seed,
        "seconds": round(seconds, 1),
        "steps": json.loads((args.out / "times.json").read_text()),
        "peak_memory_gb": round(peak / 1e9, 2),
        "scores": {(run := scores.read(folder)).model: run.benchmarks for folder in runs},
    }
    text = json.dumps(measured, indent=2) + "\n"
    if args.write:
        args.write.mkdir(parents=True, exist_ok=True)
        (args.write / "quickstart.json").write_text(text)
    print(f"{seconds:.0f} s, {peak / 1e9:.2f} GB at most")


if __name__ == "__main__":
    main()
