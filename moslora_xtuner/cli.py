"""The command `moslora`: one short function a verb, each calling one function of the package.

What is heavy is imported inside the verbs, so that `moslora --help` answers at once and a missing
optional package only stops the verbs that need it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from moslora_xtuner import __version__
from moslora_xtuner.data.digits import SCENES, TEST_QUESTIONS
from moslora_xtuner.errors import DataError, MoSLoRAError, SetupError, UsageError

INTERRUPTED = 130  # what a shell reports for Ctrl-C
UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
NO_DEPS = ("xtuner==0.2.0", "ms-vlmeval==0.0.20")  # as in requirements-nodeps.txt
_DEBUG = "MOSLORA_DEBUG"

app = typer.Typer(
    name="moslora",
    help="Tune LLaVA-style models with MoSLoRA on XTuner and prove the result.",
    epilog="The whole way on real handwriting, in minutes: moslora quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="Make, check and prepare training data.", no_args_is_help=True)
app.add_typer(data, name="data")

Out = Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Output folder.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]


class ExportFormat(str, Enum):
    """What `moslora export` can write."""

    hf = "hf"
    lora = "lora"


class ReportFormat(str, Enum):
    """What `moslora report` can print."""

    terminal = "terminal"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    json = "json"
    html = "html"


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
        os.environ[_DEBUG] = "1"


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


@data.command(epilog="Example: moslora data digits -o data/digits --seed 0")
def digits(
    out: Out,
    seed: Seed = 0,
    scenes: Annotated[int, typer.Option(min=1, help="Training records.")] = SCENES,
    test_questions: Annotated[int, typer.Option(min=16, help="Questions in each test set.")] = TEST_QUESTIONS,
) -> None:
    """Write DigitsVQA: scenes of real handwritten digits, LLaVA JSON, token store, test sets as TSV."""
    from moslora_xtuner.quickstart import make_data

    make_data(out, seed, scenes, test_questions)
    typer.echo(f"training: {out / 'train.json'}\ntoken store: {out / 'store'}\ntest sets: {out / 'LMUData'}")


@data.command(epilog="Example: moslora data check llava_v1_5_mix665k.json --images llava_data")
def check(
    json: Annotated[Path, typer.Argument(metavar="JSON", help="Training data in LLaVA's format.")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="The folder that image paths start from.")],
) -> None:
    """Read every record and image before training and name what would be dropped or would crash."""
    from moslora_xtuner.data.check import check_json
    from moslora_xtuner.progress import bar

    total = _records_about(json)
    with bar("records") as tick:
        report, _ = check_json(json, images, progress=lambda done: tick(done, max(done, total)))
    typer.echo(report.table())
    if report.problems:
        raise DataError(f"{len(report.problems)} problems in {json}: mend the records named above")


@data.command(epilog="Example: moslora data prepare mix.json --images llava_data --model ./llama-3-8b -o store")
def prepare(
    json: Annotated[Path, typer.Argument(metavar="JSON", help="Training data in LLaVA's format.")],
    images: Annotated[Path, typer.Option(metavar="DIR", help="The folder that image paths start from.")],
    model: Annotated[str, typer.Option(metavar="LLM", help="Folder or hub id whose tokenizer is used.")],
    out: Out,
    template: Annotated[str, typer.Option(help="Chat template: llama3_chat or internlm2_chat.")] = "llama3_chat",
    max_length: Annotated[int, typer.Option(min=1, help="Text tokens a record may have.")] = 2048 - 576,
) -> None:
    """Check and tokenise once into an Arrow store that every rank maps into memory."""
    from moslora_xtuner.data import prepare as preparation
    from moslora_xtuner.progress import bar

    total = _records_about(json)
    with bar("records checked") as tick:
        made = preparation.prepare(
            json,
            images,
            model,
            out,
            template=template,
            max_length=max_length,
            progress=lambda done: tick(done, max(done, total)),
        )
    typer.echo(f"store: {out} ({made['records']} records, {len(made['truncated'])} cut)")


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


@app.command("eval", epilog="Example: moslora eval runs/export/moslora --data-root data/digits/LMUData -o runs/eval")
def evaluate(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Exported models.")],
    out: Out,
    benchmarks: Annotated[str, typer.Option(help="A group or names, with commas between.")] = "digits",
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", envvar="LMUData", help="The folder of the TSV files.")
    ] = None,
    judge: Annotated[str, typer.Option(help="Who reads free answers.")] = "exact_matching",
    batch_size: Annotated[int, typer.Option(min=1, help="Questions answered at a time.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many questions a benchmark.")] = None,
) -> None:
    """Answer benchmarks in batches and let VLMEvalKit score them."""
    if data_root is None:
        raise UsageError("eval does not know where the TSV files are: give --data-root DIR or set LMUData")
    from moslora_xtuner.eval import bridge

    names = [name.strip() for name in benchmarks.split(",") if name.strip()]
    runs = bridge.evaluate(models, names, data_root, out, judge=judge, batch_size=batch_size, limit=limit)
    for run in runs:
        typer.echo(f"scores: {run / 'scores.json'}")


@app.command(epilog="Example: moslora report runs/lora runs/moslora --baseline lora -o runs/report")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that hold a scores.json.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Write report.html and radar too.")
    ] = None,
    format: Annotated[ReportFormat, typer.Option(help="How the table is printed.")] = ReportFormat.terminal,
    baseline: Annotated[str | None, typer.Option(metavar="NAME", help="Compare with this model.")] = None,
) -> None:
    """Print the score table; with -o also write the report."""
    from moslora_xtuner.eval import report as reporting

    typer.echo(reporting.table(runs, format.value).rstrip("\n"))
    if out is not None:
        command = " ".join(["moslora", *sys.argv[1:]])
        page = reporting.write_report(runs, out, baseline=baseline, command=command)
        typer.echo(f"report: {page}", err=True)


def run_app(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; an error is one line on standard error."""
    debug_before = os.environ.get(_DEBUG)
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="moslora")
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        return _interrupted() if status == INTERRUPTED else status
    except KeyboardInterrupt:
        return _interrupted()
    except Exception as fault:  # the last line of defence: one line instead of a traceback
        return _fail(fault)
    finally:
        if debug_before is None:
            os.environ.pop(_DEBUG, None)
    return 0


def main() -> None:
    """Entry point of the command `moslora`."""
    sys.exit(run_app())


def _fail(fault: Exception) -> int:
    if os.environ.get(_DEBUG):
        traceback.print_exception(fault)
    known = _known(fault)
    if known is None:
        text = f"{type(fault).__name__}: {fault}"
        _error(f"{text} (not expected: run it again as 'moslora --debug ...' and report the traceback)")
        return UNEXPECTED
    _error(str(known))
    return known.exit_code


def _records_about(path: Path) -> int:
    """About how many records a LLaVA JSON has, for the progress bar, without parsing it."""
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        return sum(chunk.count(b'"conversations"') for chunk in iter(lambda: stream.read(1 << 24), b""))


def _known(fault: Exception) -> MoSLoRAError | None:
    if isinstance(fault, MoSLoRAError):
        return fault
    if isinstance(fault, ModuleNotFoundError) and not (fault.name or "").startswith(__package__ or ""):
        return SetupError(
            f"the package {fault.name!r} is missing: run 'bash scripts/install.sh' in a clone, or "
            f"'pip install \"moslora-xtuner[all]\"' and 'pip install --no-deps {' '.join(NO_DEPS)}'"
        )
    return None


def _interrupted() -> int:
    _error("interrupted: the same command goes on where it stopped")
    return INTERRUPTED


def _error(text: Any) -> None:
    line = " ".join(str(text).split())
    typer.echo(f"error: {line}", err=True)
