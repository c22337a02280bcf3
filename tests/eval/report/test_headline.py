"""The result in words: who is best, by how much, whether that is more than noise, and what could have been shown."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from scipy import stats

from moslora_xtuner.eval.report import headline
from moslora_xtuner.eval.report.group_table import build
from moslora_xtuner.eval.report.headline import MORE, NOT_MORE, ByModel, Headline
from moslora_xtuner.eval.results.bootstrap import Outcomes
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.tasks.registry import GROUPS, STANDS_IN

WITHHELD = " DigitsVQA (real handwriting): the mean of all is withheld."
NAME, FOUR = "DigitsTextVQA", GROUPS["digits"]


def run(model: str, right: int, datasets: tuple[str, ...] = (NAME,), **entry: object) -> Run:
    """A run with `right` of 100 questions right."""
    one = {"overall": float(right), "scale": 100.0, "judge": None, **entry}
    return Run(model, Path(), {name: dict(one) for name in datasets})


def outcomes(runs: list[Run]) -> ByModel:
    """The first so many questions are right: of two runs one is never wrong where the other is right."""
    units = tuple(map(str, range(100)))
    found: dict[str, dict[str, Outcomes]] = {}
    for item in runs:
        for name, entry in item.benchmarks.items():
            scores = tuple(float(place < entry["overall"]) for place in range(100))
            found.setdefault(item.model, {})[name] = Outcomes(units, ("",) * 100, scores, "mean", 100.0)
    return found


def said(*runs: Run, base: int | None = None, known: bool = True) -> Headline:
    every = list(runs)
    table = build(every, "digits")
    have: ByModel = outcomes(every) if known else {item.model: {} for item in every}
    return headline.build(table, every, None if base is None else every[base], have)


def test_better_than_the_baseline_by_more_than_noise() -> None:
    found = said(run("base", 60), run("better", 80), base=0)
    assert found.result.startswith(
        "better is best on Digits-VQA: 80.0, 20.0 points above base (60.0); 95 % interval +1"
    )
    assert found.result.endswith(", p < 0.001: more than noise." + WITHHELD)
    assert found.verdict == MORE
    assert "Each model is one training" in found.noise
    # 2.802 x 100 x sqrt(0.2 x 0.8 / 100)
    assert "a difference of 11.2 points on Digits-VQA; smaller" in found.power


def test_no_more_than_noise() -> None:
    found = said(run("base", 60), run("near", 61), base=0)
    assert found.verdict == NOT_MORE
    assert found.result.endswith(": not more than noise." + WITHHELD)
    # One of 100 questions differs: 0.01 x 0.99 / 100
    assert f"{2.8016 * 100 * math.sqrt(0.01 * 0.99 / 100):.1f} points" in found.power


def test_the_best_of_several_is_held_to_a_stricter_p() -> None:
    # Five of 100 changed, all for the better: p = 2 x 0.95^100 = 0.012, for five comparisons 0.06
    runs = [run("base", 60), run("good", 65), *(run(f"m{number}", 60 - number) for number in range(4))]
    found = said(*runs, base=0)
    assert "for 5 comparisons): not more than noise" in found.result
    assert said(*runs[:2], base=0).verdict == MORE


def test_a_baseline_that_is_best_and_none_at_all() -> None:
    found = said(run("base", 60), run("worse", 40), run("worst", 20), base=0)
    assert found.result.startswith(
        "No model is above the baseline base on Digits-VQA: 60.0, 20.0 points above worse (40.0)"
    )
    found = said(run("a", 60), run("b", 40), run("c", 20))
    assert found.result.startswith("a is best on Digits-VQA: 60.0, 20.0 points above b (40.0)")
    equal = said(run("a", 60), run("b", 60), base=0)
    assert equal.result.startswith("a and b are equal on Digits-VQA: 60.0")
    assert equal.verdict == NOT_MORE
    assert "the same result on every question" in equal.power


def test_a_baseline_without_a_score_is_named_and_the_second_takes_its_place() -> None:
    found = said(Run("base", Path(), {}), run("a", 60), run("b", 80), base=0)
    assert found.result.startswith("b is best on Digits-VQA: 80.0, 20.0 points above a (60.0)")
    assert "Left out, for want of a score: base." in found.result


def test_a_mean_of_all_and_of_what_all_have() -> None:
    found = said(run("base", 60, FOUR), run("better", 80, FOUR), base=0)
    assert "best on the mean of DigitsVQA's four benchmarks: 80.0" in found.result
    # A mean of four has half the error of one.
    assert "a difference of 5.6 points on the mean of DigitsVQA's four benchmarks" in found.power
    assert "on a single benchmark one of 11.2" in found.power
    some = said(run("base", 60, FOUR[:2]), run("better", 80, FOUR[1:]), base=0)
    assert some.result.startswith("better is best on Digits-CN: 80.0")
    # One that has nothing is named; one whose answers were judged by somebody else is not compared.
    none = said(run("base", 60), run("better", 80), Run("empty", Path(), {}), base=0)
    assert none.result.endswith("more than noise. Left out, for want of a score: empty." + WITHHELD)
    other = said(run("base", 60), run("better", 80, judge="gpt-4o-mini"), base=0)
    assert other == Headline("No benchmark has a score of all models that can be compared, so none is called the best.")


def test_a_mean_with_other_test_sets_keeps_its_sign() -> None:
    names = tuple(STANDS_IN.get(name, name) for name in GROUPS["paper"])
    runs = [run("a", 60, names), run("b", 80, names)]
    assert (
        "best on the mean* of the nine benchmarks: 80.0"
        in headline.build(build(runs, "paper"), runs, None, outcomes(runs)).result
    )


def test_scores_alone_do_not_say_what_is_noise() -> None:
    found = said(run("base", 60), run("better", 80), base=0, known=False)
    assert found.result.endswith("nobody can say whether that is noise." + WITHHELD)
    assert (found.verdict, found.power) == ("", "")


def test_one_model_alone() -> None:
    found = said(run("m", 60))
    assert found.result.startswith("m scores 60.0 on Digits-VQA (95 % interval 5")
    assert found.verdict == ""
    # 2.802 x sqrt(0.2 / (100 + 7.85))
    assert "on a benchmark a difference of 12.1 points" in found.power


def test_seeds_are_a_mean_and_its_spread() -> None:
    ours, theirs = (60, 62, 61), (50, 54, 52)
    runs = [run(f"LoRA, seed {seed}", value) for seed, value in enumerate(theirs)]
    runs += [run(f"MoSLoRA, seed {seed}", value) for seed, value in enumerate(ours)]
    found = said(*runs, base=0)
    assert found.result.startswith(
        "MoSLoRA is best on Digits-VQA: 61.0 ± 1.0 over 3 seeds, 9.0 points above LoRA (52.0 ± 2.0 over 3 seeds)"
    )
    assert "seeds trained" in found.noise
    # Without the questions it is Welch's test.
    bare = said(*runs, base=0, known=False)
    welch = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = welch.confidence_interval()
    assert f"95 % interval {interval.low:+.1f} to {interval.high:+.1f}, p = {welch.pvalue:.3f}" in bare.result


@pytest.mark.parametrize("format", ["terminal", "json"])
def test_the_command_prints_it(format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from moslora_xtuner import cli

    for model, right in (("base", 60), ("better", 80)):
        folder = tmp_path / model
        (folder / "outcomes").mkdir(parents=True)
        entry = {NAME: {"overall": right, "scale": 100, "judge": None}}
        (folder / "scores.json").write_text(json.dumps({"model": model, "benchmarks": entry}))
        lines = (json.dumps({"unit": str(i), "score": float(i < right), "ability": ""}) for i in range(100))
        (folder / "outcomes" / f"{NAME}.jsonl").write_text("\n".join(lines))
    words = ["report", str(tmp_path / "base"), str(tmp_path / "better"), "--baseline", "base", "--format", format]
    assert cli.run_app(words) == 0
    text = capsys.readouterr().out
    if format == "json":
        found = json.loads(text)["result"]
        assert found["verdict"] == MORE
        text = " ".join(found.values())
    assert "better is best on Digits-VQA: 80.0, 20.0 points above base (60.0)" in " ".join(text.split())
    assert "a difference of 11.2 points on Digits-VQA" in " ".join(text.split())
