"""The verb that lists the recipes and writes a copy to edit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from moslora_xtuner.errors import ConfigError, UsageError

from .app import app

HEAD = ("recipe", "what it is", "Table 5")
NOTES = (
    "Table 5: the row in the paper, and its mean of nine benchmarks as printed.",
    "A copy to edit: moslora config NAME -o my_NAME.py",
)


@app.command(epilog="Example: moslora config llava_llama3_moslora -o my_moslora.py")
def config(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A shipped recipe's name or a config file; without it: a list.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the copy here instead of printing it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """List the recipes, or write one as a single file to edit."""
    if name is None:
        if out is not None:
            raise UsageError("config -o needs the recipe to copy: moslora config NAME -o FILE")
        _show(_rows())
        return
    from moslora_xtuner.recipes.catalogue import resolve_config
    from moslora_xtuner.recipes.flatten import flat, write_flat

    file = resolve_config(name)
    if out is None:
        typer.echo(flat(file), nl=False)
    else:
        write_flat(file, out, force=force)
        typer.echo(f"config: {out}")


def _rows() -> list[tuple[str, str, str]]:
    from moslora_xtuner.eval.report.paper_table5 import TABLE5
    from moslora_xtuner.recipes.catalogue import recipes

    rows = []
    for recipe in recipes():
        if recipe.row is not None and not 1 <= recipe.row <= len(TABLE5):
            raise ConfigError(
                f"{recipe.name}: Table 5 has {len(TABLE5)} rows and no row {recipe.row}: mend its docstring"
            )
        mean = f"row {recipe.row}: {TABLE5[recipe.row - 1].mean}" if recipe.row is not None else "-"
        rows.append((recipe.name, recipe.title, mean))
    return rows


def _show(rows: list[tuple[str, str, str]]) -> None:
    """A table that fits the terminal; where there is none, whole lines for other programs and the notes beside them."""
    from rich.console import Console
    from rich.table import Table

    terminal = sys.stdout.isatty()
    if not terminal:
        widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(2)]
        for name, title, mean in (HEAD, *rows):
            typer.echo(f"{name:<{widths[0]}}  {title:<{widths[1]}}  {mean}")
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column(HEAD[0], no_wrap=True, style="cyan")
        table.add_column(HEAD[1])
        table.add_column(HEAD[2], no_wrap=True)
        for row in rows:
            table.add_row(*row)
        Console(highlight=False).print(table)
    for note in NOTES:
        typer.echo(note, err=not terminal)
