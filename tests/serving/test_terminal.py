"""A conversation in the terminal: history, pictures, what fails stays out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import judge_server
import pytest
import standins
from PIL import Image

from moslora_xtuner.errors import DataError, UsageError
from moslora_xtuner.eval.models.causal_lm import CausalAnswerer
from moslora_xtuner.eval.models.conversation import Turn
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.models.text_folders import TextFolders
from moslora_xtuner.eval.tasks.prompts import Question, build
from moslora_xtuner.eval.tasks.registry import BENCHMARKS
from moslora_xtuner.serving.demo import Room
from moslora_xtuner.serving.terminal import Conversation, talk


class Parrot:
    """Says what was said to it, and keeps what it was asked."""

    name = "parrot"

    def __init__(self, *, sees: bool = True, remembers: bool = True) -> None:
        self.sees, self.remembers = sees, remembers
        self.asked: list[list[Turn]] = []

    def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = 512) -> Iterator[str]:
        self.asked.append(list(turns))
        if turns[-1].text == "fail":
            yield "half "
            raise DataError("no answer")
        yield from (f"{word} " for word in turns[-1].text.split())


def test_history_pictures_and_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "c.png").write_text("none")
    parrot = Parrot()
    lines = [
        "one two", "", f"/image {tmp_path / 'b.png'}", f"/image {tmp_path / 'c.png'}", "three", "fail", "four",
        "/what", "/reset", "five", "/quit", "six",
    ]  # fmt: skip
    talk(Conversation(parrot, tmp_path / "a.png"), lines)
    texts = [[turn.text for turn in asked] for asked in parrot.asked]
    assert texts == [
        ["one two"],
        ["one two", "one two", "three"],
        ["one two", "one two", "three", "three", "fail"],
        ["one two", "one two", "three", "three", "four"],
        ["five"],
    ]
    assert [[len(turn.pictures) for turn in asked] for asked in parrot.asked][3] == [1, 0, 1, 0, 0]
    out, err = capsys.readouterr()
    assert out == "one two \nthree \nhalf four \nfive \n"
    assert "c.png: not a picture" in err
    assert "error: no answer" in err
    assert "/reset begins anew" in err


def test_who_sees_nothing_and_remembers_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    parrot = Parrot(sees=False, remembers=False)
    talk(Conversation(parrot), ["one", f"/image {tmp_path / 'a.png'}", "two", "/what"])
    assert [[turn.text for turn in asked] for asked in parrot.asked] == [["one"], ["two"]]
    assert not any(turn.pictures for asked in parrot.asked for turn in asked)
    out, err = capsys.readouterr()
    assert out == "one \ntwo \n"
    refused, told = err.splitlines()
    assert refused == "error: parrot is a language model and sees no pictures: ask it in words alone"
    assert told == "each question stands by itself, nothing said before is part of it, /quit or Ctrl-D ends"
    with pytest.raises(UsageError, match="sees no pictures"):
        Conversation(parrot, tmp_path / "a.png")


def test_an_answer_begins_with_its_first_word(capsys: pytest.CaptureFixture[str]) -> None:
    class Sighing(Parrot):
        def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = 512) -> Iterator[str]:
            yield from (" ", "\n  one", "  two")

    talk(Conversation(Sighing()), ["x"])
    assert capsys.readouterr().out == "one  two\n"


def test_a_page_shows_it_single_questions() -> None:
    parrots = [Parrot(), Parrot(remembers=False)]
    room = Room(parrots, None, 8)
    turns = [Turn("user", "one"), Turn("assistant", "one"), Turn("user", "two")]
    for number in range(2):
        assert "".join(room.reply(number, turns)) == "two "
    assert [[turn.text for turn in parrot.asked[0]] for parrot in parrots] == [["one", "one", "two"], ["two"]]


@pytest.fixture
def server() -> Iterator[judge_server.Server]:
    with judge_server.serving() as running:
        yield running


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "moslora_xtuner", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_ask_prints_the_answer_and_nothing_else(server: judge_server.Server, tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    model, picture = f"openai:{server.url}", str(tmp_path / "a.png")
    done = run("ask", model, picture, "which is it?")
    assert (done.returncode, done.stdout, done.stderr) == (0, "WHICH IS IT?\n", "")
    told = json.loads(run("ask", model, picture, "which?", "--json").stdout)
    assert told == {"model": "m", "pictures": [picture], "question": "which?", "answer": "WHICH?"}
    for words, status, why in (
        ([model, picture], 2, "a question after the pictures"),
        ([model, "gone.png", "x"], 5, "gone.png cannot be read"),
        (["nowhere", "x"], 2, "nowhere is no folder"),
    ):
        failed = run("ask", *words)
        assert (failed.returncode, failed.stdout) == (status, "")
        assert why in failed.stderr
        assert len(failed.stderr.splitlines()) == 1


def test_a_language_model_is_asked_without_a_picture(tmp_path: Path) -> None:
    model = standins.make_llama3(tmp_path / "llm")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    words = ["--template", "alpaca", "--max-new-tokens", "6", "--precision", "fp32"]
    done = run("ask", str(model), "Is water wet?", *words)
    question = Question(build(BENCHMARKS["boolq"], {"question": "Is water wet?"}), None, 6)
    wanted = CausalAnswerer(TextFolders(model), precision=Precision.fp32).answer_batch([question])
    assert (done.returncode, done.stdout) == (0, f"{wanted[0]}\n")
    refused = run("ask", str(model), str(tmp_path / "a.png"), "Is it?")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[-1].startswith("error: llm is a language model and sees no pictures")
    talked = run("chat", str(model), *words, input="Is water wet?\nIs water wet?\n")
    assert talked.stdout.count(wanted[0]) == 2
    assert "each question stands by itself" in talked.stderr


def test_chat_goes_on_until_the_input_ends(server: judge_server.Server) -> None:
    done = run("chat", f"openai:{server.url}", input="one two\nthree\n")
    assert (done.returncode, done.stdout) == (0, "ONE TWO \nONE TWO \n")  # the server sees the first message alone
