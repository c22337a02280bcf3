"""The verb that shows the whole way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Seed, app


@app.command(epilog="Example: moslora quickstart -o runs/quickstart")
def quickstart(
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", envvar="MOSLORA_OUT", help="Output folder.")
    ] = Path("runs/quickstart"),
    seed: Seed = 0,
    fast: Annotated[
        bool, typer.Option("--fast", envvar="MOSLORA_FAST", help="A much shorter run, to see that all works.")
    ] = False,
) -> None:
    """Data, LoRA and MoSLoRA training, export, evaluation and report on DigitsVQA (real handwriting)."""
    from moslora_xtuner.quickstart import run

    run(out, seed, fast)
