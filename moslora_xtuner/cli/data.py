"""The verbs that make, check and prepare training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from moslora_xtuner.errors import DataError, UsageError

from ..data.tokens.chat_templates import MAX_LENGTH
from ..digits_base import language_model
from .app import Out, Seed, app

data = typer.Typer(help="Make, check and prepare training data.", no_args_is_help=True)
app.add_typer(data, name="data")

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="JSON...",
        help="Training data: LLaVA's JSON or JSONL, or a folder of Hugging Face datasets; several, or FILE@WEIGHT.",
        show_default=False,
    ),
]
Images = Annotated[
    Path, typer.Option(metavar="DIR", help="The folder that image paths start from; none is needed for text.")
]
Template = Annotated[
    str | None,
    typer.Option(
        help="llama3_chat or internlm2_chat, the tokenizer's own when not given; alpaca (the authors' for commonsense "
        "reasoning), alpaca_as_asked (as their evaluation has it)."
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"Text tokens a record may have; longer ones are cut. By default {MAX_LENGTH}, with alpaca 256.",
        show_default=False,
    ),
]
MaxImages = Annotated[int, typer.Option(min=1, help="Images a record may have; LLaVA-1.5 was made for one.")]
SkipBad = Annotated[
    str, typer.Option(metavar="N%", help="Share of the records that may be bad: they are left out, named and counted.")
]
ControlTokens = Annotated[
    bool,
    typer.Option("--control-tokens", help="Control tokens in the data's own text keep their meaning, as with XTuner."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; all cores when not given.", show_default=False)]


@data.command(epilog="Example: moslora data digits -o data/digits --seed 0")
def digits(
    out: Out,
    seed: Seed = 0,
    scenes: Annotated[int | None, typer.Option(min=1, help="Training records.")] = None,
    test_questions: Annotated[int | None, typer.Option(min=16, help="Questions in each test set.")] = None,
) -> None:
    """Write DigitsVQA: scenes of real handwritten digits, LLaVA JSON, token store, test sets as TSV."""
    from moslora_xtuner.data.digits import SCENES, TEST_QUESTIONS
    from moslora_xtuner.quickstart import make_data

    make_data(out, seed, scenes or SCENES, test_questions or TEST_QUESTIONS)
    typer.echo(f"training: {out / 'train.json'}\ntoken store: {out / 'store'}\ntest sets: {out / 'LMUData'}")


@data.command(epilog="Example: moslora data commonsense LLM-Adapters -o data/commonsense")
def commonsense(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="LLM-Adapters' repository, or its ft-training_set/ and dataset/ alone."),
    ],
    out: Out,
    validation: Annotated[int, typer.Option(min=0, help="Records kept from training.")] = 120,
    split_seed: Annotated[int, typer.Option(help="Of that split; the authors' is 42.")] = 42,
    tests_only: Annotated[bool, typer.Option("--tests-only", help="Leave the 170K training questions out.")] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Take files that are not the published ones; the manifest says which.")
    ] = False,
) -> None:
    """Check LLM-Adapters' 170K questions and eight test sets, and write them for training and evaluation."""
    from moslora_xtuner.data.commonsense.writing import TABLES, write_commonsense

    made = write_commonsense(
        folder, out, validation=validation, seed=split_seed, tests_only=tests_only, changed=changed
    )
    if made["records"]:
        typer.echo(f"training: {out / 'train.json'} ({made['records']['train']} records)")
        typer.echo(f"validation: {out / 'validation.json'} ({made['records']['validation']} records)")
    typer.echo(f"test sets: {out / TABLES} ({', '.join(f'{name} {n}' for name, n in made['questions'].items())})")
    if others := [name for name, file in made["files"].items() if not file["published"]]:
        typer.echo(f"note: not as published: {', '.join(others)}", err=True)


@data.command("small-worlds", epilog="Example: moslora data small-worlds -o data/small-worlds --seed 0")
def small_worlds(
    out: Out,
    seed: Seed = 0,
    records: Annotated[int, typer.Option(min=8, help="Training records.")] = 8000,
    test_questions: Annotated[int, typer.Option(min=1, help="Questions in each test set.")] = 200,
) -> None:
    """Write questions of made-up worlds in the forms of the eight commonsense sets; the tests' worlds are others."""
    from moslora_xtuner.data.worlds.writing import TABLES, write_worlds

    write_worlds(out, seed=seed, records=records, test_questions=test_questions)
    typer.echo(f"training: {out / 'train.json'}\ntest sets: {out / TABLES}")


@data.command(epilog="Example: moslora data check llava_v1_5_mix665k.json --images llava_data -o check")
def check(
    json: Sources,
    images: Images,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder for report.html, report.json and problems.jsonl."),
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a corrected copy, and beside it what was changed.")
    ] = None,
    skip_bad: SkipBad = "0%",
    model: Annotated[
        str | None,
        typer.Option(metavar="LLM", help="Count tokens with the tokenizer of this folder, hub id, or `digits`."),
    ] = None,
    template: Template = None,
    max_length: MaxLength = None,
    max_images: MaxImages = 1,
    decode: Annotated[bool, typer.Option(help="Open and decode every image.")] = True,
    recheck: Annotated[bool, typer.Option(help="Also decode images that an earlier check has decoded.")] = False,
    workers: Workers = None,
) -> None:
    """Read every record and image before training and name what would be dropped or would crash.

    Interrupted? The same command goes on: images that were decoded are not decoded again.
    """
    from moslora_xtuner.progress import bar

    from ..data.checking.check import check as run
    from ..data.checking.fix import mend_all
    from ..data.checking.report import reporting, sources_text
    from ..data.checking.worker import Rules
    from ..data.reading.sources import open_sources

    budget = _share(skip_bad)
    inputs = open_sources(json)
    if fix is not None and len(inputs) > 1:
        raise UsageError("--fix takes one source at a time: run it for each")
    tokens = None
    if model is not None:
        from moslora_xtuner.data.prepare import tokenising

        tokens, _ = tokenising(language_model(model), template, max_length)
        max_length = tokens.max_length
    rules = Rules(tuple(inputs), images, decode, max_images, max_length or MAX_LENGTH, tokens)
    with reporting(out) as told, bar("records") as tick:
        report = run(inputs, rules, workers=workers, problem=told.problem, progress=tick, recheck=recheck)
        told.write(report)
    typer.echo(report.table())
    typer.echo(sources_text(report))
    if out is not None:
        typer.echo(f"report: {out / 'report.html'}")
    if fix is not None:
        with bar("records mended") as tick:
            mended = mend_all(inputs[0], rules, fix, progress=tick)
        typer.echo(mended.table())
        if mended.left_out > budget * (mended.records + mended.left_out):
            raise DataError(f"{fix} lacks {mended.left_out} records that could not be mended: allow it with --skip-bad")
    elif not report.within(budget):
        raise DataError(report.advice(budget))


@data.command(epilog="Example: moslora data prepare mix.json --images llava_data --model ./llama-3-8b -o store")
def prepare(
    json: Sources,
    model: Annotated[str, typer.Option(metavar="LLM", help="Folder or hub id of the tokenizer; `digits` ships.")],
    out: Out,
    images: Images = Path(),
    template: Template = None,
    max_length: MaxLength = None,
    loss: Annotated[
        Literal["answer", "all"] | None,
        typer.Option(help="On the answers alone, or on all text; by default answer, with alpaca all."),
    ] = None,
    max_images: MaxImages = 1,
    skip_bad: SkipBad = "0%",
    decode: Annotated[bool, typer.Option(help="Open and decode every image; without it only text is checked.")] = True,
    control_tokens: ControlTokens = False,
    workers: Workers = None,
) -> None:
    """Check and tokenise once into an Arrow store that every rank maps into memory."""
    from moslora_xtuner.data import prepare as preparation
    from moslora_xtuner.progress import bar

    with bar("records") as tick:
        made = preparation.prepare(
            json,
            images,
            language_model(model),
            out,
            template=template,
            max_length=max_length,
            loss=loss,
            max_images=max_images,
            skip_bad=_share(skip_bad),
            decode=decode,
            obey_control=control_tokens,
            workers=workers,
            progress=tick,
        )
    typer.echo(f"store: {out} ({made['records']} records, {made['truncated']} cut, {made['left_out']} left out)")
    remarks = ", ".join(f"{count} {kind}" for kind, count in made["remarks"].items())
    if remarks:
        typer.echo(f"remarks: {remarks} (named in {out / 'problems.jsonl'})")


def _share(text: str) -> float:
    """A percentage as a share of 1.

    Raises:
        UsageError: it is none.
    """
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--skip-bad {text}: give a percentage, such as 0.5%")
    return share
