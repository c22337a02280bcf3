"""The verbs that score models and print the result."""

from __future__ import annotations

import shlex
import sys
import tempfile
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from moslora_xtuner.errors import DataError, UsageError

from .app import app

if TYPE_CHECKING:
    from moslora_xtuner.eval.settings import Settings


class ReportFormat(str, Enum):
    """What `moslora report` can print."""

    terminal = "terminal"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"
    json = "json"
    html = "html"


Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="Exports, runs, models' folders, hub names (OWNER/NAME), or openai:[NAME@]URL of a server.",
    ),
]
Benchmarks = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="paper, digits, commonsense, commonsense-greedy, small-worlds, names, FILE.tsv:KIND for a table of "
        "your own (choice, yes-no, short-answer, open), with commas between; all lists what there is.",
    ),
]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[BENCHMARK=]NAME[@URL]",
        help="Who reads free answers: exact_matching (default), a model of OpenAI's, one at a server's address up to "
        "/v1, or local:FOLDER. Again for a benchmark that another one judges.",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Only so many circular groups, image pairs or questions a benchmark."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Look at the tables, name everything that is wrong, and ask nothing.")
]
SkipBad = Annotated[
    int,
    typer.Option(min=0, metavar="ROWS", help="Leave out so many rows with faults of a table; the score says which."),
]
KitFixes = Annotated[
    bool, typer.Option("--kit-fixes", help="Correct known defects of VLMEvalKit; the scores name them.")
]

Kit = Annotated[
    bool,
    typer.Option(
        "--kit",
        help="Also ask lm-evaluation-harness's own tasks of the sets of commonsense: log-likelihood on other data, not "
        "comparable, in a file and a table of its own.",
    ),
]
KitTasks = Annotated[
    Path | None,
    typer.Option(
        "--kit-tasks",
        metavar="DIR",
        help="With --kit: a folder of the harness's task files, which take the place of its tasks of the same names.",
    ),
]

EXITS = (
    "Exit status: 0: every benchmark that was asked for has its score, or, without answers, its file to hand in. "
    "2: the command asks for what does not exist or fit. 3: VLMEvalKit or another package is missing or lacks what is "
    "needed. 4: the output folder is not ours, or cannot be written. 5: tables are missing or have faults; nothing was "
    "asked. 9: a model, a judge or the scoring failed; what was answered is kept. 130: Ctrl-C."
)
"""Of `moslora eval`."""


@app.command(
    "eval",
    epilog=f"{EXITS}\n\nExample: moslora eval runs/export/moslora --data-root data/digits/LMUData -o runs/eval",
)
def evaluate(
    models: Models = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Output folder.")] = None,
    benchmarks: Benchmarks = "digits",
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", envvar="LMUData", help="The folder of the TSV files.")
    ] = None,
    judge: Judges = None,
    judge_workers: Annotated[int, typer.Option(min=1, metavar="N", help="Requests that the judge gets at a time.")] = 8,
    judge_retries: Annotated[int, typer.Option(min=0, metavar="N", help="How often a failed request is repeated.")] = 8,
    judge_timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds that one verdict may take.")] = 60.0,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="NAME", help="What reports call the models, in their order.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes that answer; one a GPU by default, one without.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="N", help="Questions answered at a time in each process.")
    ] = 64,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "4bit"] | None,
        typer.Option(help="Of the weights; bf16 on a GPU and fp32 on a CPU by default."),
    ] = None,
    instruct: Annotated[
        bool, typer.Option("--instruct", help="Ask for a letter or a word at the end of your own tables' questions.")
    ] = False,
    limit: Limit = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch what is not here.")] = False,
    check: Check = False,
    skip_bad: SkipBad = 0,
    kit_fixes: KitFixes = False,
    kit: Kit = False,
    kit_tasks: KitTasks = None,
) -> None:
    """Answer benchmarks in batches and let VLMEvalKit score them."""
    words = [word.strip() for word in benchmarks.split(",") if word.strip()]
    if benchmarks == "all":
        typer.echo(_catalogue(data_root))
        return
    if not check and (not models or out is None):
        raise UsageError("eval needs a model and an output folder: moslora eval MODEL -o DIR")
    if kit_tasks is not None and not kit:
        raise UsageError("--kit-tasks is for --kit, which asks lm-evaluation-harness: add it")
    from moslora_xtuner.eval.models.precision import Precision
    from moslora_xtuner.eval.settings import Settings

    settings = Settings(
        judge=judge or (),
        judge_workers=judge_workers,
        judge_retries=judge_retries,
        judge_timeout=judge_timeout,
        processes=processes or _gpus(),
        batch_size=batch_size,
        precision=None if precision is None else Precision(precision),
        instruct=instruct,
        limit=limit,
        download=download,
        skip_bad=skip_bad,
        kit_fixes=kit_fixes,
        kit=kit,
        kit_tasks=kit_tasks,
    )
    if check:
        _check(words, data_root, settings)
        return
    assert models
    assert out is not None
    from moslora_xtuner.eval.evaluator import evaluate as evaluate_models

    runs = evaluate_models(models, words, data_root, out, settings, names=name)
    for run in runs:
        typer.echo(f"scores: {run / 'scores.json'}")
    if kit:
        from moslora_xtuner.eval.report import harness_table

        typer.echo(f"\n{harness_table.terminal(runs)}".rstrip("\n"))


def _check(benchmarks: list[str], data_root: Path | None, settings: Settings) -> None:
    """Print every finding in the tables on a line of its own. Raises DataError where `eval` would stop."""
    from moslora_xtuner.eval import evaluator

    with tempfile.TemporaryDirectory(prefix="moslora-") as folder:
        looked = evaluator.check(benchmarks, data_root, settings, log=Path(folder) / "log")
    stops = []
    for item in looked:
        for line in item.look.lines():
            typer.echo(line)
        faults, rest = len(item.look.faults), len(item.look.findings) - len(item.look.faults)
        name, count = item.benchmark.dataset, len(item.look.table)
        answers = "" if item.has_answers else ", without answers: it has no score"
        typer.echo(f"{name}: {count} rows{answers}, {faults} faults, {rest} notes")
        if faults and not item.look.skippable(settings.skip_bad):
            stops.append(name)
    if stops:
        raise DataError(f"eval would not ask {', '.join(stops)}: the lines above name each fault")


def _catalogue(data_root: Path | None) -> str:
    from moslora_xtuner.eval.tasks import catalogue

    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        return catalogue.listing(catalogue.known(Path(log.name)), data_root)


def _gpus() -> int:
    import torch

    return max(1, torch.cuda.device_count())


@app.command(epilog="Example: moslora report runs/lora runs/moslora --baseline lora -o runs/report")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that hold a scores.json.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Write report.html, radars, changed answers too.")
    ] = None,
    format: Annotated[ReportFormat, typer.Option(help="How the table is printed.")] = ReportFormat.terminal,
    group: Annotated[
        str | None,
        typer.Option(help="Only these benchmarks: paper, digits, commonsense, other. In csv the first by default."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Print each run's difference from this model, its 95 % interval and p."),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper/--no-paper", help="Print the paper's table (5 or 4) beneath.")
    ] = False,
    abilities: Annotated[
        bool, typer.Option("--abilities/--no-abilities", help="Print every ability and subtask beneath.")
    ] = False,
) -> None:
    """Print the result and the score tables; with -o also write the report.

    Runs named "NAME, seed 1", "NAME, seed 2" are seeds of one method: they are averaged, and methods are compared.
    """
    from moslora_xtuner.eval.report import page as reporting

    text = reporting.table(runs, format.value, group=group, baseline=baseline, paper=paper, abilities=abilities)
    typer.echo(text.rstrip("\n"))
    if format is ReportFormat.csv:
        if baseline is not None:
            typer.echo("note: csv holds the scores alone; other formats print the differences too", err=True)
        if group is None and (further := reporting.groups(runs)[1:]):
            words = " and ".join(f"--group {name}" for name in further)
            typer.echo(f"note: csv is one table; the runs hold other benchmarks too: {words}", err=True)
    if out is not None:
        command = shlex.join(["moslora", *sys.argv[1:]])
        page = reporting.write_report(runs, out, baseline=baseline, command=command)
        typer.echo(f"report: {page}", err=True)
