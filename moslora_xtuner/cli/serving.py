"""The verbs that let people ask a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from moslora_xtuner.errors import UsageError

from .app import app

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="An export, a run, a model's folder, OWNER/NAME, or openai:[NAME@]URL.")
]
System = Annotated[str | None, typer.Option(help="The system prompt; the model's own when not given.")]
NewTokens = Annotated[int, typer.Option(min=1, help="Tokens of an answer at most.")]
Numbers = Annotated[
    Literal["fp32", "bf16", "fp16", "4bit"] | None,
    typer.Option("--precision", help="Of the weights; bf16 on a GPU and fp32 on a CPU by default."),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="NAME",
        help="Ask a language model in this form (alpaca, llama3_chat, internlm2_chat), not in that of its training.",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a hub's model that is not here.")]


@app.command(epilog='Example: moslora ask runs/moslora picture.png "Which digit is on the left?"')
def ask(
    model: Model,
    words: Annotated[
        list[str], typer.Argument(metavar="PICTURE... QUESTION", help="Picture files, then the question.")
    ],
    system: System = None,
    max_new_tokens: NewTokens = 512,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    precision: Numbers = None,
    template: Form = None,
    download: Download = False,
) -> None:
    """Ask a model one question; the answer, and nothing else, on standard output."""
    *files, question = words
    if not question.strip() or (not files and Path(question).is_file()):
        raise UsageError('ask needs a question after the pictures: moslora ask MODEL picture.png "What is this?"')
    from moslora_xtuner.eval.models.conversation import Turn, read_picture

    pictures = tuple(read_picture(Path(file)) for file in files)
    partner = _partner(model, precision, download, template, shown=bool(pictures))
    answer = "".join(partner.reply([Turn("user", question, pictures)], system, max_new_tokens)).strip()
    said = {"model": partner.name, "pictures": files, "question": question, "answer": answer}
    typer.echo(json.dumps(said, ensure_ascii=False) if as_json else answer)


@app.command(epilog="Example: moslora chat runs/export/moslora picture.png")
def chat(
    model: Model,
    picture: Annotated[Path | None, typer.Argument(metavar="[PICTURE]", help="Goes with your first words.")] = None,
    system: System = None,
    max_new_tokens: NewTokens = 512,
    precision: Numbers = None,
    template: Form = None,
    download: Download = False,
) -> None:
    """Talk with a model in the terminal; /image FILE, /reset, /quit."""
    from moslora_xtuner.progress import note
    from moslora_xtuner.serving.terminal import Conversation, commands, talk, typed

    if picture is not None:
        from moslora_xtuner.eval.models.conversation import read_picture

        read_picture(picture)  # told before the model is loaded
    partner = _partner(model, precision, download, template, shown=picture is not None)
    conversation = Conversation(partner, picture, system, max_new_tokens)
    note(f"{partner.name}: {commands(partner)}")
    talk(conversation, typed("> "))


@app.command(
    epilog="Example: moslora serve runs/export/moslora --port 8000",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def serve(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="EXPORT", help="What `moslora export` wrote, in either form.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of 127.0.0.1.")] = 8000,
    name: Annotated[str | None, typer.Option(help="What requests call the model.")] = None,
    vllm: Annotated[
        Path | None, typer.Option(metavar="FILE", envvar="MOSLORA_VLLM", help="vLLM's program, or its environment.")
    ] = None,
) -> None:
    """Serve an export with vLLM on this machine alone; further options go to vLLM."""
    from moslora_xtuner.serving.vllm import Serving
    from moslora_xtuner.serving.vllm import serve as start

    raise typer.Exit(start(Serving.of(model, name), port, vllm, context.args))


@app.command(epilog="Example: moslora demo runs/export/lora runs/export/moslora")
def demo(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL [MODEL]", help="One, or two side by side: what `moslora ask` takes."),
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of 127.0.0.1.")] = 7860,
    system: System = None,
    max_new_tokens: NewTokens = 512,
    precision: Numbers = None,
    template: Form = None,
    download: Download = False,
) -> None:
    """Show a web page on this machine to ask one model, or two side by side."""
    if len(models) > 2:
        raise UsageError(f"demo shows one model or two, got {len(models)}")
    from moslora_xtuner.serving.demo import Room, show

    partners = [_partner(model, precision, download, template) for model in models]
    show(Room(partners, system, max_new_tokens), port)


def _partner(  # type: ignore[no-untyped-def]
    word: str, precision: str | None, download: bool, template: str | None, *, shown: bool = False
):
    """Who answers; that a model without eyes is `shown` a picture is said before it is loaded."""
    from moslora_xtuner.eval.models.conversation import partner, require_no_pictures
    from moslora_xtuner.eval.models.precision import Precision
    from moslora_xtuner.eval.models.resolve import find
    from moslora_xtuner.eval.models.text_model import TextModel
    from moslora_xtuner.progress import quiet

    with quiet():
        found = find(word, precision=None if precision is None else Precision(precision), download=download)
        require_no_pictures(found.name, shown and isinstance(found, TextModel))
        return partner(found, template)
