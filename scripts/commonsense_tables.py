"""The paper's Tables 1, 3, 4 and figure 4 from evaluated runs, the paper's figures beside them.

    python scripts/commonsense_tables.py --table 4 runs/commonsense/eval/* -o runs/commonsense/report
    python scripts/commonsense_tables.py --figure 4 runs/commonsense/eval/* -o runs/commonsense/report

The runs are called as `scripts/reproduce_table4.sh` calls them ("LoRA, seed 42"; "LoRA, 12.5 %, seed 42"). Written:
table4.md and table4.csv; of the figure also figure4.png and figure4.json with every seed's scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reproduce.table4 import figure
from reproduce.table4.catalogue import FIGURE, TABLES
from reproduce.table4.outcome import Outcome, grid

from moslora_xtuner.atomic import atomic_json, atomic_write
from moslora_xtuner.errors import MoSLoRAError
from moslora_xtuner.eval.report.formats import as_csv, as_markdown, as_terminal

BENCHMARKS = ("commonsense", "commonsense-greedy", "small-worlds")


def main() -> None:
    """Parse the command line, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--table", choices=TABLES)
    what.add_argument("--figure", choices=(FIGURE,))
    parser.add_argument("--benchmarks", choices=BENCHMARKS, default="commonsense")
    parser.add_argument("--trainings", type=Path, help="the folder of the trainings, for weights, hours and memory")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("runs", nargs="+", type=Path)
    args = parser.parse_args()
    try:
        outcome = Outcome.read(args.runs, args.benchmarks, args.trainings)
        made = grid(outcome, TABLES[args.table]) if args.table else figure.grid(outcome)
    except MoSLoRAError as fault:
        raise SystemExit(f"error: {fault}") from None
    name = f"table{args.table}" if args.table else f"figure{args.figure}"
    args.out.mkdir(parents=True, exist_ok=True)
    atomic_write(args.out / f"{name}.md", as_markdown(made))
    atomic_write(args.out / f"{name}.csv", as_csv(made))
    if args.figure:
        atomic_json(args.out / f"{name}.json", figure.as_json(outcome))
        figure.draw(outcome, args.out / f"{name}.png")
    print(as_terminal(made))


if __name__ == "__main__":
    main()
