"""Time and peak memory of a whole quickstart, with the scores it came to.

    python scripts/bench_quickstart.py -o runs/bench --write docs/results

Memory is the largest drop of the machine's available memory, looked at twice a second: what processes share counts
once, and files that the kernel may forget do not count. Run it on a machine that does nothing else.
The limits that the project promises are 10 minutes and 6 GB on 2 cores. With --write, quickstart.json, the score table
quickstart.md and the picture radar.png go to that folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import psutil

from moslora_xtuner.eval.results import scores
from moslora_xtuner.versions import installed_versions


def measure(command: list[str]) -> tuple[float, int]:
    """Seconds of a command, and by how many bytes it lowered the machine's available memory at most.

    Raises:
        SystemExit: the command failed; with its status.
    """
    before = least = psutil.virtual_memory().available
    start = time.monotonic()
    with subprocess.Popen(command) as child:
        while child.poll() is None:
            least = min(least, psutil.virtual_memory().available)
            time.sleep(0.5)
    if child.returncode:
        raise SystemExit(child.returncode)
    return time.monotonic() - start, before - least


def main() -> None:
    """Run quickstart and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="quickstart's folder; must not exist")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="folder for what was measured")
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
        shutil.copyfile(args.out / "report" / "scores.md", args.write / "quickstart.md")
        shutil.copyfile(args.out / "report" / "radar.png", args.write / "radar.png")
    print(f"{seconds:.0f} s, {peak / 1e9:.2f} GB at most")


if __name__ == "__main__":
    main()
