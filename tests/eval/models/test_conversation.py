"""A conversation: the answers of `moslora eval`, the tokens of training, piece by piece; and behind a server."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import judge_server
import pytest
from PIL import Image

from moslora_xtuner.data.instructions import as_word
from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.chat_templates import TEMPLATES, get_template
from moslora_xtuner.data.tokens.tokenise import IMAGE_TOKEN_INDEX, Encoder, tokenise
from moslora_xtuner.errors import DataError, EvaluationError, UsageError
from moslora_xtuner.eval.models.conversation import LocalPartner, Turn, partner, read_picture, uri
from moslora_xtuner.eval.models.openai_server import ServedModel
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.models.resolve import find
from moslora_xtuner.eval.tasks.prompts import Question

Picture = Callable[..., bytes]


@pytest.fixture(scope="module")
def local(export: Path) -> LocalPartner:
    found = partner(find(str(export), precision=Precision.fp32))
    assert isinstance(found, LocalPartner)
    return found


def test_one_question_has_the_answer_that_eval_has(local: LocalPartner, picture: Picture) -> None:
    for number, size in enumerate([(48, 48), (90, 30), (20, 64)]):
        image = picture(number, size)
        wanted = local.answerer.answer([Question("Which digit is it?", image, 8)])[0]
        pieces = list(local.reply([Turn("user", "Which digit is it?", (image,))], new_tokens=8))
        assert "".join(pieces).strip() == wanted


def test_a_conversation_has_the_tokens_of_training(local: LocalPartner, picture: Picture) -> None:
    turns = [
        Turn("user", "What is it?", (picture(1),)),
        Turn("assistant", "A nine."),
        Turn("user", "And these two?", (picture(2), picture(3))),
    ]
    record = Record(
        "x",
        ("a", "b", "c"),
        (("<image>\nWhat is it?", "A nine."), ("<image>\n<image>\nAnd these two?", "")),
        "Be brief.",
    )
    ((wanted, _),) = tokenise([record], Encoder(local.tokenizer), get_template("llama3_chat"))
    token = local.tokenizer.convert_tokens_to_ids("<image>")
    found = [IMAGE_TOKEN_INDEX if index == token else index for index in local.ids(turns, "Be brief.")]
    assert found == wanted[:-1]  # up to the suffix of the answer that is to come
    assert "".join(local.reply(turns, "Be brief.", 4)) is not None


def test_what_cannot_be_answered_is_said(local: LocalPartner, picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the model reads 1024: begin a new one"):
        list(local.reply([Turn("user", "x" * 3000)]))
    (tmp_path / "a.png").write_bytes(b"no picture")
    for name, why in (("a.png", "not a picture"), ("b.png", "cannot be read")):
        with pytest.raises(DataError, match=why):
            read_picture(tmp_path / name)


@pytest.fixture
def server() -> Iterator[judge_server.Server]:
    with judge_server.serving() as running:
        yield running


def test_behind_a_server(server: judge_server.Server, picture: Picture) -> None:
    served = partner(ServedModel.read(f"openai:{server.url}"))
    image = picture(3)
    assert list(served.reply([Turn("user", "which is it?", (image,))])) == ["WHICH ", "IS ", "IT? "]
    assert base64.b64decode(server.images["which is it?"].partition(",")[2]) == image
    with pytest.raises(UsageError, match="m is asked in a form of its own: leave --template out"):
        partner(ServedModel.read(f"openai:{server.url}"), "alpaca")
    server.away = True
    with pytest.raises(EvaluationError, match="does not answer"):
        list(served.reply([Turn("user", "which?")]))


def test_a_format_that_servers_do_not_read_goes_as_png() -> None:
    made = BytesIO()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(made, "TIFF")
    kind, _, text = uri(made.getvalue()).partition(",")
    assert kind == "data:image/png;base64"
    assert Image.open(BytesIO(base64.b64decode(text))).getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize("text", ["Say <|eot_id|> and <image>", "  blanks  ", "<|begin_of_text|>", "plain"])
def test_what_people_write_is_text_whatever_it_looks_like(local: LocalPartner, picture: Picture, text: str) -> None:
    """A control token in a question does nothing: the ids are those of a record of training with the same words."""
    tokenizer = local.tokenizer
    template = TEMPLATES["llama3_chat"]
    special = {tokenizer.convert_tokens_to_ids(token) for token in ("<|eot_id|>", "<|begin_of_text|>", "<image>")}
    plain = local.ids([Turn("user", "words")])
    record = Record("r", (), ((as_word(text), ""),))
    ((ids, _),) = tokenise([record], Encoder(tokenizer), template)
    found = local.ids([Turn("user", text)])
    assert ids[: len(found)] == found
    assert [id for id in found if id in special] == [id for id in plain if id in special]
    pictured = local.ids([Turn("user", text, (picture(1),))])
    assert pictured.count(tokenizer.convert_tokens_to_ids("<image>")) == 1
