"""How a training step's cost grows with tokens, rank and batch: stock XTuner with PEFT's LoRA beside MoSLoRA.

    python scripts/bench_growth.py --write                                 # on a CPU, some minutes
    python scripts/bench_growth.py --shape llama3-8b --layers 8 --out F    # on a GPU

One thing grows at a time, from the middle of the others; each point is a run of bench_train.py's measurement.
--write keeps docs/results/growth.json and growth.png; `document_steps.py` makes the page's table of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from bench.training.growth_plot import plot  # noqa: E402
from bench.training.shapes import SHAPES, Shape  # noqa: E402
from bench_train import measure, say  # noqa: E402

RESULTS = ROOT.parent / "docs" / "results"
VARIANTS = ("stock_lora", "moslora", "moslora_fast")
STEPS = (0.5, 1, 2, 4)
"""Of each quantity, how many times its middle."""


def points(shape: Shape) -> dict[str, list[tuple[int, Shape]]]:
    """The shapes by what grows."""
    return {
        "tokens": [(n, replace(shape, tokens=n)) for n in _times(shape.tokens)],
        "rank": [(n, replace(shape, r=n, alpha=2 * n)) for n in _times(shape.r)],
        "records": [(n, replace(shape, rows=n)) for n in _times(shape.rows)],
    }


def _times(middle: int) -> list[int]:
    return [round(middle * step) for step in STEPS]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true", help="keep the result in docs/results")
    args = parser.parse_args()
    shape = SHAPES[args.shape].cut(args.layers, args.rows, args.tokens)
    shape = replace(shape, r=args.rank, alpha=2 * args.rank)
    found: dict[str, Any] = {"middle": {"tokens": args.tokens, "rank": args.rank, "records": args.rows}, "rows": []}
    for grows, shapes in points(shape).items():
        for value, one in shapes:
            say(f"== {grows} {value}")
            made = measure(one, VARIANTS, args.repeats)
            found |= {key: made[key] for key in ("machine", "shape", "layers", "dtype", "repeats")}
            found["rows"] += [
                {
                    "grows": grows,
                    "value": value,
                    **{key: row[key] for key in ("variant", "step_s", "peak_bytes", "saved_bytes_per_token_layer")},
                }
                for row in made["rows"]
            ]
    for file in [args.out] * bool(args.out) + [RESULTS / "growth.json"] * args.write:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=2) + "\n")
    if args.write:
        plot(found, RESULTS / "growth.png")


if __name__ == "__main__":
    main()
