"""The application that the verbs register with, and the options that several of them share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from moslora_xtuner import __version__

DEBUG = "MOSLORA_DEBUG"

app = typer.Typer(
    name="moslora",
    help="Tune LLaVA-style models with MoSLoRA on XTuner and prove the result.",
    epilog="The whole way on real handwriting, in minutes: moslora quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Output folder.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"moslora {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Tune LLaVA-style models with MoSLoRA on XTuner and prove the result."""
    if debug:
        os.environ[DEBUG] = "1"
