"""Trainings that are disturbed at random moments: what is survived, and how much work is lost.

    nice -n 10 python scripts/faults.py --work runs/faults                          # one try of each fault, minutes
    nice -n 10 python scripts/faults.py --work runs/faults --write --tries 50 --faults kill-rank
    python scripts/faults.py --check                                               # is the page what the file says?

Each try is `moslora train` itself: digits on the base that ships, two processes with ZeRO-2, accumulation, dropout.
Survived is what ended as it should, left no process, and, resumed, has losses and weights of a run that nothing
happened to, bit for bit. A full disk and a read-only one need root (a small tmpfs). --write adds the tries to
docs/results/faults.json and makes the table of docs/reliability.md of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))

from bench.faults.kinds import KINDS  # noqa: E402
from bench.faults.table import table  # noqa: E402
from bench.faults.world import Outcome, World  # noqa: E402
from docs.marked_tables import write_tables  # noqa: E402
from gpu.machine import described, machine  # noqa: E402

RESULT = SCRIPTS.parent / "docs" / "results" / "faults.json"
PAGE = SCRIPTS.parent / "docs" / "reliability.md"
ROOT_ALONE = {"disk-full", "read-only"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb, print, keep; 1 when something was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/faults"), metavar="DIR")
    parser.add_argument("--faults", nargs="+", choices=KINDS, default=list(KINDS), metavar="FAULT")
    parser.add_argument("--tries", type=int, default=1, help="of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="docs/results/faults.json and docs/reliability.md")
    parser.add_argument("--check", action="store_true", help="only compare docs/reliability.md with docs/results")
    args = parser.parse_args(arguments)
    if args.check:
        write_tables(PAGE, tables(), check=True)
        return 0
    kept = RESULT if args.write else args.work.absolute() / "faults.json"
    world = World(args.work.absolute(), args.seed)
    survived = True
    for number in range(args.tries):
        for name in args.faults:
            if name in ROOT_ALONE and os.geteuid():
                print(f"{name}: needs root, left out")
                continue
            row = tried(name, world, number)
            survived &= row["survived"]
            keep(row, kept)
            if args.write:
                write_tables(PAGE, tables())
    return 0 if survived else 1


def tried(name: str, world: World, number: int) -> dict[str, Any]:
    """One try, as a row; its folder goes when it was survived."""
    begun = time.monotonic()
    before = set(world.work.iterdir())
    try:
        found = KINDS[name][1](world)
    except (AssertionError, OSError, ValueError) as fault:
        found = Outcome(False, said=f"{type(fault).__name__}: {fault}"[:500])
    row = {"fault": name, "survived": found.survived, "lost": found.lost, "said": found.said}
    print(f"{name} {number + 1}: {'survived' if found.survived else 'NOT SURVIVED'}, {found.lost} lost; {found.said}")
    if found.survived:
        for path in set(world.work.iterdir()) - before:
            if path.name.startswith("run-"):
                shutil.rmtree(path, ignore_errors=True)
    return {**row, "seconds": round(time.monotonic() - begun, 1)}


def keep(row: dict[str, Any], file: Path) -> None:
    """Add a try to the file."""
    found = json.loads(file.read_text()) if file.is_file() else {"machine": machine(), "tries": []}
    found["tries"].append(row)
    file.write_text(json.dumps(found, indent=1) + "\n")


def tables() -> dict[str, Any]:
    """Of the page, by their marks."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    return {"faults-machine": lambda: described(found["machine"]), "faults": lambda: table(found["tries"])}


if __name__ == "__main__":
    raise SystemExit(main())
