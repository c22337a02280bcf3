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
from PIL import Image

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.models.conversation import Turn
from moslora_xtuner.serving.terminal import Conversation, talk


class Parrot:
    """Says what was said to it, and keeps what it was asked."""

    name = "parrot"

    def __init__(self) -> None:
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


def test_chat_goes_on_until_the_input_ends(server: judge_server.Server) -> None:
    done = run("chat", f"openai:{server.url}", input="one two\nthree\n")
    assert (done.returncode, done.stdout) == (0, "ONE TWO \nONE TWO \n")  # the server sees the first message alone
