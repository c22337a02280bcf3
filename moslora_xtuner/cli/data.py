"""The verbs that make, check and prepare training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moslora_xtuner.data.digits import SCENES, TEST_QUESTIONS
from moslora_xtuner.errors import DataError

from .app import Out, Seed, app

data = typer.Typer(help="Make, check and prepare training data.", no_args_is_help=True)
app.add_typer(data, name="data")


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
    template: Annotated[
        str | None, typer.Option(help="llama3_chat or internlm2_chat; the tokenizer's own when not given.")
    ] = None,
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


def _records_about(path: Path) -> int:
    """About how many records a LLaVA JSON has, for the progress bar, without parsing it."""
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        return sum(chunk.count(b'"conversations"') for chunk in iter(lambda: stream.read(1 << 24), b""))
