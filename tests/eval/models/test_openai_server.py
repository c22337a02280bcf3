"""A model behind a server: asked with the picture's own bytes, through every fault, and each answer kept."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import judge_server
import pytest

from moslora_xtuner.errors import EvaluationError, UsageError
from moslora_xtuner.eval import openai_client
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.models.openai_server import ServedModel
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.eval.tasks.prompts import Question


@pytest.fixture
def server() -> Iterator[judge_server.Server]:
    with judge_server.serving() as running:
        yield running


@pytest.fixture
def model(server: judge_server.Server) -> ServedModel:
    return ServedModel.read(f"openai:{server.url}")


def test_the_question_and_the_pictures_own_bytes_arrive(
    server: judge_server.Server, model: ServedModel, picture: Callable[..., bytes]
) -> None:
    image = picture(3)
    assert list(model.pool(1, 4).run([[Question("which?", image)]])) == [(0, ["WHICH?"])]
    kind, _, text = server.images["which?"].partition(",")
    assert (kind, base64.b64decode(text)) == ("data:image/png;base64", image)
    with pytest.raises(EvaluationError, match=r"neither PNG.*no server reads it"):
        list(model.pool(1, 4).run([[Question("which?", b"%PDF")]]))


def test_every_fault_is_overcome_and_nothing_is_lost(server: judge_server.Server, model: ServedModel) -> None:
    faults = ["429", "500", "nonsense", "half", "no choices", "cut", "503"]
    questions = [Question(f"question {number}", None) for number in range(40)]
    for number, question in enumerate(questions):
        if number % 3 == 0:
            server.script[question.text] = faults[number // 3 % len(faults) :][:2]
    found = dict(model.pool(2, 4).run([[question] for question in questions]))
    assert found == {number: [question.text.upper()] for number, question in enumerate(questions)}
    assert set(server.answered.values()) == {1}


def test_an_empty_answer_is_an_answer(server: judge_server.Server, model: ServedModel) -> None:
    server.says = lambda prompt: ""
    assert list(model.pool(1, 1).run([[Question("?", None)]])) == [(0, [""])]
    assert server.requests["?"] == 1


def test_what_it_serves_is_asked_first(server: judge_server.Server) -> None:
    server.models = ["org/one", "two"]
    assert ServedModel.read(f"openai:org/one@{server.url}").name == "one"
    with pytest.raises(UsageError, match="serves org/one, two: name one"):
        ServedModel.read(f"openai:{server.url}")
    with pytest.raises(UsageError, match="not three"):
        ServedModel.read(f"openai:three@{server.url}")
    with pytest.raises(UsageError, match="openai:http"):
        ServedModel.read("openai:localhost:8000")
    server.away = True
    with pytest.raises(EvaluationError, match="does not say what it serves"):
        ServedModel.read(f"openai:{server.url}")


def test_when_it_goes_away_the_answers_are_kept(
    server: judge_server.Server, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_client.Client.__init__, "__kwdefaults__", {"key": None, "timeout": 5.0, "retries": 0})
    asked = 0

    def says(prompt: str) -> str:
        nonlocal asked
        asked += 1
        server.away = asked == 7
        return "Yes"

    server.says = says
    word = f"openai:{server.url}"
    with pytest.raises(EvaluationError, match="does not answer: it answered 503"):
        evaluate([word], ["DigitsMME"], data_root, tmp_path, Settings(batch_size=1, quiet=True))
    kept = (tmp_path / "m" / "predictions" / "DigitsMME.jsonl").read_text().splitlines()
    assert len(kept) == 7
    server.away = False
    (folder,) = evaluate([word], ["DigitsMME"], data_root, tmp_path, Settings(batch_size=3, quiet=True))
    assert asked == 12
    # Always Yes: half of each subtask's questions, no image with both.
    assert scores.read(folder).benchmarks["DigitsMME"]["overall"] == 150.0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["served_by"], manifest["served_as"], manifest["weights"]) == (server.url, "m", "not seen")


def test_a_number_format_is_the_servers_affair(server: judge_server.Server, data_root: Path, tmp_path: Path) -> None:
    from moslora_xtuner.eval.models.precision import Precision

    with pytest.raises(UsageError, match="leave --precision out"):
        evaluate([f"openai:{server.url}"], ["DigitsMME"], data_root, tmp_path, Settings(precision=Precision.fp16))
