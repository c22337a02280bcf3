"""Which trainings the chosen tables and figure want, and which runs each of their reports is made of.

    python scripts/reproduce/table4/runs.py --tables 1,4 --figure 4 --methods NAME,... --seeds N,... --parts P,... \\
        [--evaluated KEY ...]

Lines of words with tabs between: `run KEY RECIPE PART SEED NAME`, seed by seed, so that what is interrupted
still compares like with like; then `report WHAT BASELINE KEY=FOLDER ...`, where runs that were evaluated by an earlier
start are in it too. FOLDER is what `moslora eval` calls the run's folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

from moslora_xtuner.errors import MoSLoRAError, UsageError
from moslora_xtuner.eval.results.run_folder import folder_name
from reproduce.table4.catalogue import FIGURE, LINES, PARTS, PREFIX, TABLES, WHOLE, Trained, by_key


def words(text: str) -> list[str]:
    """With commas between."""
    return [word.strip() for word in text.split(",") if word.strip()]


def parts_of(text: str) -> list[float]:
    """Per cent of the questions, above 0, rising; all of them are always among them.

    Raises:
        UsageError: one is no such number.
    """
    found = {WHOLE}
    for word in words(text):
        try:
            part = float(word)
        except ValueError:
            part = 0.0
        if not 0 < part <= WHOLE:
            raise UsageError(f"--parts {word}: give per cent of the questions, above 0 and at most 100")
        found.add(part)
    return sorted(found)


def seeds_of(text: str) -> list[int]:
    """Different whole numbers.

    Raises:
        UsageError: they are not, or there is none.
    """
    found = words(text)
    if not found or any(not word.isdecimal() for word in found):
        raise UsageError(f"--seeds {text}: give whole numbers with commas between, such as 42,43,44")
    return list(dict.fromkeys(int(word) for word in found))


def chosen(
    tables: Sequence[str], figure: bool, methods: Collection[str], parts: Sequence[float]
) -> dict[str, list[tuple[str, float]]]:
    """The methods and parts of each table and of the figure, in their order; all methods where none is named.

    Raises:
        UsageError: there is no such table, or nothing that is chosen has such a method.
    """
    if unknown := [name for name in tables if name not in TABLES]:
        raise UsageError(f"--table {unknown[0]}: the tables are {', '.join(TABLES)}")
    found = {}
    for name in tables:
        table = TABLES[name]
        rows = [*table.printed, *(recipe for recipe in table.further if recipe in methods)]
        found[f"table-{name}"] = [(recipe, WHOLE) for recipe in rows if not methods or recipe in methods]
    if figure:
        lines = [recipe for recipe in LINES if not methods or recipe in methods]
        found[f"figure-{FIGURE}"] = [(recipe, part) for part in parts for recipe in lines]
    has = {recipe for rows in found.values() for recipe, _ in rows}
    if unknown := sorted(set(methods) - has):
        known = {recipe for name in tables for recipe in (*TABLES[name].printed, *TABLES[name].further)}
        known |= set(LINES if figure else ())
        raise UsageError(
            f"--methods: nothing that is chosen has {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return {what: rows for what, rows in found.items() if rows}


def wanted(rows: dict[str, list[tuple[str, float]]], seeds: Sequence[int]) -> list[Trained]:
    """Every training once, seed by seed."""
    return list(dict.fromkeys(Trained(*row, seed) for seed in seeds for some in rows.values() for row in some))


def of_report(what: str, mine: Collection[Trained], evaluated: Collection[Trained]) -> list[Trained]:
    """The runs of a report: what is chosen for it, and what of it was evaluated before, by method, part and seed."""
    kind, _, name = what.partition("-")
    recipes = list(LINES) if kind == "figure" else [*TABLES[name].printed, *TABLES[name].further]
    found = {run for run in {*mine, *evaluated} if run.recipe in recipes and (kind == "figure" or run.part == WHOLE)}
    return sorted(found, key=lambda run: (recipes.index(run.recipe), run.part, run.seed))


def baseline(what: str, runs: Sequence[Trained]) -> str:
    """Of a report: the first seed of the method that others are held against; "-" where it is not there."""
    kind, _, name = what.partition("-")
    recipe = LINES[0] if kind == "figure" else TABLES[name].baseline
    return next((run.name for run in runs if (run.recipe, run.part) == (recipe, WHOLE)), "-")


def main() -> None:
    """Parse the command line, print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default="")
    parser.add_argument("--figure", default="")
    parser.add_argument("--methods", default="")
    parser.add_argument("--seeds", default="42")
    parser.add_argument("--parts", default=",".join(f"{part:g}" for part in PARTS))
    parser.add_argument("--evaluated", nargs="*", default=[])
    args = parser.parse_args()
    try:
        if args.figure not in ("", FIGURE):
            raise UsageError(f"--figure {args.figure}: there is figure {FIGURE} alone")
        methods = [name.removeprefix(PREFIX) for name in words(args.methods)]
        rows = chosen(words(args.tables), bool(args.figure), methods, parts_of(args.parts))
        runs = wanted(rows, seeds_of(args.seeds))
    except MoSLoRAError as fault:
        raise SystemExit(f"error: {fault}") from None
    before = [run for run in map(by_key, args.evaluated) if run is not None]
    for run in runs:
        print("run", run.key, run.recipe, f"{run.part:g}", run.seed, run.name, sep="\t")
    for what, some in rows.items():
        mine = [run for run in runs if (run.recipe, run.part) in some]
        found = of_report(what, mine, before)
        print("report", what, baseline(what, found), *(f"{run.key}={folder_name(run.name)}" for run in found), sep="\t")


if __name__ == "__main__":
    main()
