"""Who judges what, as the words of --judge say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.errors import EvaluationError, UsageError
from moslora_xtuner.eval.judges.assignment import Judging
from moslora_xtuner.eval.judges.openai_judge import JudgeAddress
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, resolve

MINI, TURBO = JudgeAddress("gpt-4o-mini", None), JudgeAddress("gpt-4-turbo", None)
PAPER = resolve(["paper"])


def test_one_for_all_and_others_for_some() -> None:
    found = Judging.read(["MMVet=gpt-4-turbo", "gpt-4o-mini", "AI2D_TEST=exact_matching", "MME=m@http://h:1/v1"])
    assert {item.dataset: found.of(item.dataset) for item in PAPER} == dict.fromkeys(
        (item.dataset for item in PAPER), MINI
    ) | {"MMVet": TURBO, "AI2D_TEST": None, "MME": JudgeAddress("m", "http://h:1/v1")}
    assert str(found) == "MMVet=gpt-4-turbo, gpt-4o-mini, AI2D_TEST=exact_matching, MME=m@http://h:1/v1"


def test_without_a_word_nobody_judges() -> None:
    found = Judging.read([])
    assert [found.of(name) for name in ("MMVet", "MME")] == [None, None]
    assert str(found) == "exact_matching"


@pytest.mark.parametrize("word", ["m@http://h/v1?key=x", "local:/a=b", "MathVista_MINI=local:/a=b"])
def test_a_sign_of_equality_elsewhere_names_no_benchmark(word: str) -> None:
    found = Judging.read([word])
    named = word.startswith("MathVista")
    assert found.of("MathVista_MINI") == JudgeAddress.read(word.removeprefix("MathVista_MINI="))
    assert (found.of("MMVet") is None) == named


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b"], "given 2 times for all"),
        (["MME=a", "MME=b"], "MME has another judge already"),
        (["MME="], "give a model's name"),
        (["a@b"], "give a model's name"),
        (["deepseek"], "DeepSeek-V3 in VLMEvalKit, which OpenAI does not serve"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Judging.read(words)


def test_a_judge_of_a_benchmark_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match="no benchmark named MMvet"):
        Judging.read(["a", "MMvet=gpt-4-turbo"]).check(PAPER)
    Judging.read(["MMBench_DEV_EN=a", "b"]).check(PAPER)  # known, though not asked


def test_all_that_needs_a_judge_is_named_with_one_to_take() -> None:
    with pytest.raises(EvaluationError) as fault:
        Judging.read(["AI2D_TEST=gpt-4o-mini"]).check(PAPER)
    assert "MathVista_MINI and MMVet" in str(fault.value)
    assert "--judge MathVista_MINI=gpt-4o-mini --judge MMVet=gpt-4-turbo" in str(fault.value)
    with pytest.raises(EvaluationError, match="no score under exact_matching: MMVet"):
        Judging.read(["gpt-4o-mini", "MMVet=exact_matching"]).check(PAPER)
    Judging.read(["MathVista_MINI=a", "MMVet=b"]).check(PAPER)
    Judging.read([]).check([BENCHMARKS["DigitsMME"], BENCHMARKS["TextVQA_VAL"]])


def test_a_judge_for_each_address_that_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    words = ["gpt-4o-mini", "MMVet=gpt-4-turbo", "MathVista_MINI=gpt-4-turbo", "TextVQA_VAL=nobody"]
    made = Settings(judge=words).judges(PAPER, tmp_path / "verdicts.jsonl")
    assert set(made) == {MINI, TURBO}  # TextVQA has no use for one
    # The models that VLMEvalKit's names stand for.
    assert {judge.identity for judge in made.values()} == {"gpt-4o-mini-2024-07-18", "gpt-4-1106-preview"}
    assert Settings(judge=words).judges([BENCHMARKS["TextVQA_VAL"]], tmp_path / "v") == {}
    assert Settings().judges(PAPER, tmp_path / "v") == {}
