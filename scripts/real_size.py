"""Real sizes on this machine: each recipe of Table 5 loads its true sizes, takes one step and writes its adapters.

    nice -n 10 python scripts/real_size.py --work runs/real_size
    nice -n 10 python scripts/real_size.py --work runs/real_size --write       # also docs/results and docs/plan.md
    nice -n 10 python scripts/real_size.py --work runs/real_size --write --recipes llava_llama3_lora --layers 32
    python scripts/real_size.py --check                                        # is docs/plan.md what the file says?

The weights are random; sizes, number types and file layouts are those of LLaMA-3 8B Instruct, InternLM2-Chat 7B and
CLIP ViT-L/336, written to the work folder once (33 GB). Each recipe itself is run by `moslora train`, one process,
bf16 under ZeRO-2, on two short records. Where the machine's memory does not hold all layers, as many of a model's
first ones as it does are loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))

from bench.real_size import runs  # noqa: E402
from bench.real_size.checkpoints import write_all  # noqa: E402
from bench.real_size.cut import cut  # noqa: E402
from bench.real_size.foreseen import Foreseen, foresee, layers_that_fit  # noqa: E402
from bench.real_size.records import prepare  # noqa: E402
from bench.real_size.table import above_imports, memory_table, sizes_table  # noqa: E402
from docs.marked_tables import write_tables  # noqa: E402
from gpu.machine import described, machine  # noqa: E402

GIB = 2**30
RESULT = SCRIPTS.parent / "docs" / "results" / "real_size.json"
PAGE = SCRIPTS.parent / "docs" / "plan.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write what is missing, run, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/real_size"), metavar="DIR", help="kept from run to run")
    parser.add_argument("--recipes", nargs="+", choices=runs.PAPER, default=list(runs.PAPER), metavar="RECIPE")
    parser.add_argument("--layers", type=_layers, default=None, metavar="N|auto", help="of the language model")
    parser.add_argument("--memory", type=float, metavar="GIB", help="what auto may take; what is free when not given")
    parser.add_argument("--write", action="store_true", help="docs/results/real_size.json and docs/plan.md")
    parser.add_argument("--check", action="store_true", help="only compare docs/plan.md with docs/results")
    args = parser.parse_args(arguments)
    if args.check:
        write_tables(PAGE, page_tables(), check=True)
        return
    work = args.work.absolute()
    room = args.memory * GIB if args.memory else 0.95 * psutil.virtual_memory().available
    kept = RESULT if args.write else work / "real_size.json"
    for row in measured(work, args.recipes, args.layers, room):
        found = keep(row, kept)
        if args.write:
            write_tables(PAGE, page_tables())
    print(described(found["machine"]), sizes_table(found), memory_table(found), sep="\n\n")


def keep(row: dict[str, Any], file: Path) -> dict[str, Any]:
    """Put a row into a file of results, beside those of other recipes; all of it."""
    before = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.is_file() else []
    rows = {one["recipe"]: one for one in (*before, row)}
    ordered = [rows[recipe] for recipe in runs.PAPER if recipe in rows]
    found = {"machine": machine(), "dtype": "bfloat16", "records": 2, "layers": runs.LAYERS, "rows": ordered}
    file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def page_tables() -> dict[str, Any]:
    """The tables of docs/plan.md, made of docs/results/real_size.json."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    return {
        "real-size-machine": lambda: f"{described(found['machine'])}; {found['machine']['memory_gib']} GiB of memory.",
        "real-size": lambda: sizes_table(found),
        "real-size-memory": lambda: memory_table(found),
    }


def measured(work: Path, recipes: Sequence[str], layers: int | None, room: float) -> Iterator[dict[str, Any]]:
    """Rows as they are done; without `layers` as many as `room` bytes hold."""
    families = list(dict.fromkeys(runs.family(recipe) for recipe in recipes))
    write_all(work / "models", families)
    for family in families:
        llm, recipe = work / "models" / family, next(r for r in recipes if runs.family(r) == family)
        prepare(work, llm, work / f"store_{family}", runs.environment(work, recipe, llm))
    deepspeed = work / "zero2_bf16.json"
    deepspeed.write_text(json.dumps(runs.DEEPSPEED, indent=2), encoding="utf-8")
    for recipe in recipes:
        whole = work / "models" / runs.family(recipe)

        def foresee_at(llm: Path, recipe: str = recipe) -> Foreseen:
            return foresee(recipe, runs.environment(work, recipe, llm), deepspeed, runs.options(recipe))

        count = min(layers or layers_that_fit(whole, runs.LAYERS, room, foresee_at), runs.LAYERS)
        llm = cut(whole, count)
        plan = foresee_at(llm)
        say(f"{recipe}: {count} of {runs.LAYERS} layers, {plan.peak / GIB:.1f} GiB by the plan")
        row = runs.train(work, recipe, count, plan, runs.environment(work, recipe, llm), deepspeed)
        held = sum(above_imports(row["memory"], "step"))
        say(f"{recipe}: {held / GIB:.1f} GiB in the step, which took {row['seconds']['step']:.0f} s")
        yield row


def say(what: str) -> None:
    """To standard error, at once."""
    print(what, file=sys.stderr, flush=True)


def _layers(value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdigit() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no number of layers: give 1 or more, or auto")
    return int(value)


if __name__ == "__main__":
    main()
