"""The verbs that train a model and write what engines serve."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .app import Out, app


class ExportFormat(str, Enum):
    """What `moslora export` can write."""

    hf = "hf"
    lora = "lora"


@app.command(epilog="Example: moslora train digits_moslora --deepspeed zero2 --work-dir runs/moslora")
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A config file or a shipped one's name.")],
    deepspeed: Annotated[str, typer.Option(help="zero2, a JSON file, or none.")] = "zero2",
    processes: Annotated[int | None, typer.Option(min=1, help="One a GPU when not given.")] = None,
    work_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the run is kept.")] = None,
    cfg_options: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change the config; repeatable.")
    ] = None,
    resume: Annotated[str | None, typer.Option(help="'auto' or a checkpoint.")] = None,
) -> None:
    """Train through xtuner, and fail when it fails."""
    from moslora_xtuner.training import launch

    folder = launch.train(
        config,
        deepspeed=None if deepspeed == "none" else deepspeed,
        processes=processes,
        work_dir=work_dir,
        cfg_options=cfg_options or [],
        resume=resume,
    )
    typer.echo(f"run: {folder}")


@app.command(epilog="Example: moslora export runs/moslora -o runs/export/moslora --format hf")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A training run or an adapter folder.")],
    out: Out,
    format: Annotated[ExportFormat, typer.Option(help="A whole Hugging Face model, or a plain LoRA.")] = (
        ExportFormat.hf
    ),
    name: Annotated[str | None, typer.Option(help="The model's name in reports.")] = None,
) -> None:
    """Fold the mixers and write what any engine serves."""
    from moslora_xtuner.export import merge

    made = merge.export(run, out, format=format.value, name=name)
    typer.echo(f"export: {made}")
