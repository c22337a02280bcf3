"""The verbs that train a model and write what engines serve."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .app import Out, app


class ExportFormat(str, Enum):
    """What `moslora export` can write."""

    hf = "hf"
    lora = "lora"
    xtuner = "xtuner"


class NumberType(str, Enum):
    """Of the weights that `moslora export` writes."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Base(str, Enum):
    """Into what a run in 4 or 8 bits is merged."""

    dequantised = "dequantised"
    original = "original"


Config = Annotated[str, typer.Argument(metavar="CONFIG", help="A config file or a shipped recipe's name.")]
Gpus = Annotated[int | None, typer.Option(min=1, help="One process on each; all of this machine when not given.")]
DeepSpeed = Annotated[str, typer.Option(help="zero2, zero3, a JSON file, or none.")]
Processes = Annotated[int | None, typer.Option(min=1, help="On a machine without a GPU: how many.")]
WorkDir = Annotated[Path | None, typer.Option(metavar="DIR", help="Where the run is kept.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="How often each record is seen; as the config says.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Records of a micro-batch; as the config says.")]
Data = Annotated[
    list[str] | None, typer.Option(metavar="JSON", help="Train on this instead of the recipe's data; repeatable.")
]
Images = Annotated[Path | None, typer.Option(metavar="DIR", help="The folder that image paths of --data start from.")]
ValidationData = Annotated[
    str | None,
    typer.Option("--validation", metavar="STORE", help="Held-out records: their loss with each checkpoint; or a JSON."),
]
CfgOptions = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change the config; repeatable.")]


@app.command(epilog="Example: moslora plan llava_llama3_moslora --gpus 4 --gpu-memory 80")
def plan(
    config: Config,
    gpus: Gpus = None,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.1, metavar="GIB", help="Plan for other GPUs than this machine's.")
    ] = None,
    gpu_tflops: Annotated[float, typer.Option(min=0.001, help="What a GPU achieves, for the hours.")] = 125.0,
    deepspeed: DeepSpeed = "zero2",
    processes: Processes = None,
    work_dir: WorkDir = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    data: Data = None,
    images: Images = None,
    validation: ValidationData = None,
    cfg_options: CfgOptions = None,
    chosen: Annotated[Path | None, typer.Option(hidden=True, help="Write here what is left to the plan.")] = None,
) -> None:
    """Look at all that a training needs, count its steps, memory and time; nothing is started or downloaded."""
    from moslora_xtuner.progress import quiet

    options = _changes(config, epochs, batch_size, data, images, validation, cfg_options)
    with quiet():
        from moslora_xtuner.training.plan.make import make_plan
        from moslora_xtuner.training.plan.outcome import require_ready, text
        from moslora_xtuner.training.plan.setting import read_setting

        setting = read_setting(
            config,
            processes=processes,
            gpus=gpus,
            gpu_memory=gpu_memory,
            deepspeed=None if deepspeed == "none" else deepspeed,
            options=options,
            work_dir=work_dir,
        )
        made = make_plan(setting, gpu_tflops)
    typer.echo(text(made, shutil.get_terminal_size((120, 24)).columns))
    require_ready(made)
    if chosen is not None and made.checkpointed_blocks is not None:
        chosen.write_text(f"model.checkpointed_blocks={made.checkpointed_blocks}\n", encoding="utf-8")


@app.command(epilog="Example: moslora train digits_moslora --deepspeed zero2 --work-dir runs/moslora")
def train(
    config: Config,
    gpus: Gpus = None,
    deepspeed: DeepSpeed = "zero2",
    processes: Processes = None,
    work_dir: WorkDir = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    data: Data = None,
    images: Images = None,
    validation: ValidationData = None,
    cfg_options: CfgOptions = None,
    resume: Annotated[
        str | None, typer.Option(help="'auto', the newest checkpoint of the run's folder, or a checkpoint.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew; what the folder holds goes once the new run is whole.")
    ] = False,
    skip_plan: Annotated[bool, typer.Option("--skip-plan", help="Start without looking first.")] = False,
) -> None:
    """Plan, then train through xtuner, and fail when it fails."""
    from moslora_xtuner.training import launch
    from moslora_xtuner.training.processes import processes_for, require_deepspeed

    count = processes_for(gpus, processes)
    require_deepspeed(None if deepspeed == "none" else deepspeed, count)
    options = _changes(config, epochs, batch_size, data, images, validation, cfg_options)
    if not skip_plan:
        with tempfile.TemporaryDirectory() as folder:
            note = Path(folder) / "chosen"
            # In a process of its own: what it loads, and any hold on a GPU, goes before the training starts.
            words = ["plan", config, "--deepspeed", deepspeed, "--processes", str(count), "--chosen", str(note)]
            words += ["--work-dir", str(work_dir)] if work_dir else []
            words += [word for option in options for word in ("--cfg-options", option)]
            status = subprocess.run([sys.executable, "-m", "moslora_xtuner", *words], check=False).returncode
            if status:
                raise typer.Exit(status)
            options += note.read_text(encoding="utf-8").split() if note.exists() else []
    run = launch.train(
        config,
        deepspeed=None if deepspeed == "none" else deepspeed,
        processes=count,
        work_dir=work_dir,
        cfg_options=options,
        resume=resume,
        overwrite=overwrite,
    )
    typer.echo(f"run: {run}")


@app.command(epilog="Example: moslora reshard runs/moslora -o runs/moslora-1 --processes 1")
def reshard(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a training that was interrupted.")],
    out: Out,
    processes: Annotated[int, typer.Option(min=1, help="How many there will be, of all machines.")],
) -> None:
    """Write a run's newest checkpoint for another number of processes: the same global batches, cut otherwise."""
    from moslora_xtuner.progress import quiet

    with quiet():
        from moslora_xtuner.training.reshard import reshard as cut

        made = cut(run, out, processes)
    words = " ".join(f"--cfg-options {option}" for option in made.options)
    typer.echo(f"checkpoint: {made.path}, after {made.steps} steps")
    typer.echo(f"go on with: the run's own command, --work-dir {out} --resume auto --processes {processes} {words}")


def _changes(
    config: str,
    epochs: int | None,
    batch_size: int | None,
    data: list[str] | None,
    images: Path | None,
    validation: str | None,
    further: list[str] | None,
) -> list[str]:
    from moslora_xtuner.training.changes import own_data, sizes, validation_data

    return [
        *sizes(config, epochs, batch_size),
        *own_data(config, data or [], images),
        *validation_data(config, validation, images),
        *(further or []),
    ]


@app.command(epilog="Example: moslora export runs/moslora -o runs/export/moslora --format hf")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A training run or an adapter folder.")],
    out: Out,
    format: Annotated[
        ExportFormat,
        typer.Option(help="A whole Hugging Face model, one with a plain LoRA beside it, or XTuner's layout."),
    ] = (ExportFormat.hf),
    name: Annotated[str | None, typer.Option(help="The model's name in reports.")] = None,
    dtype: Annotated[NumberType | None, typer.Option(help="Of the weights; the training's when not given.")] = None,
    base: Annotated[
        Base, typer.Option(help="What a 4-bit run's base becomes: the weights it computed with, or those before.")
    ] = Base.dequantised,
    tower_lora: Annotated[
        bool, typer.Option("--tower-lora", help="With lora: the visual encoder's adapter apart, too.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A run of `moslora eval`, whose scores go into the model card.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to the hub, private; needs a token there.")
    ] = None,
) -> None:
    """Fold the mixers and write what any engine serves; read back from disk and held against what was trained."""
    from moslora_xtuner.export import merge
    from moslora_xtuner.export import push as hub

    if push is not None:
        hub.require_token(push)
    made = merge.export(
        run,
        out,
        format=format.value,
        name=name,
        dtype=dtype and dtype.value,
        base=base.value,
        tower_lora=tower_lora,
        scores="" if report is None else _scores(report),
        tell=typer.echo,
    )
    typer.echo(f"export: {made}")
    if push is not None:
        typer.echo(f"pushed: {hub.push(made, push)}")


def _scores(run: Path) -> str:
    from moslora_xtuner.eval.report.page import table

    return table([run], "markdown")
