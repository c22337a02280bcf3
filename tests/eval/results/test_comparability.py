"""Hard reasons against a comparison, remarks beside it, notes, and when a mean may stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner.eval.results import comparability
from moslora_xtuner.eval.results.manifest import Manifest
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.tasks.registry import GROUPS

NAME = "AI2D_TEST"


def a_run(
    model: str, entry: dict[str, Any] | None = None, record: dict[str, Any] | None = None, **manifest: Any
) -> Run:
    """A run of AI2D alone."""
    full = {"overall": 50.0, "scale": 100.0, "judge": "exact_matching", **(entry or {})}
    return Run(model, Path(), {NAME: full}, Manifest.read({"datasets": {NAME: record or {}}, **manifest}))


def test_runs_that_say_the_same_or_nothing_can_be_compared() -> None:
    facts = {"sha256": "1" * 64, "prompts_sha256": "2" * 64}
    assert comparability.reasons([a_run("a", record=facts), a_run("b", record=facts), a_run("c")], NAME) == []
    assert comparability.reasons([a_run("a"), Run("b", Path(), {}, Manifest.read({"datasets": None}))], NAME) == []
    assert comparability.reasons([a_run("a"), a_run("b", {"judge": None})], NAME) == []


@pytest.mark.parametrize(
    ("entry", "record", "said"),
    [
        ({}, {"sha256": "2" * 64}, ["the runs saw other versions of the data"]),
        ({}, {"prompts_sha256": "2" * 64}, ["the runs saw other prompts"]),
        ({"judge": "gpt-4o-mini"}, {}, ["other judges (exact matching, no judge and gpt-4o-mini)"]),
        ({"limit": 5}, {}, ["other limits (5, all)"]),
        ({"limit": 5}, {"prompts_sha256": "2" * 64}, ["other limits (5, all)"]),
        (
            {"left_out": {"rows": 1, "indices": ["7"], "because": ["index 7: no picture"]}},
            {"prompts_sha256": "2" * 64},
            ["other rows of the table were left out"],
        ),
        ({"kit_fixes": ["lists"]}, {}, ["VLMEvalKit's defects were corrected in some alone (--kit-fixes)"]),
    ],
)
def test_each_hard_reason_is_found(entry: dict[str, Any], record: dict[str, Any], said: list[str]) -> None:
    facts = {"sha256": "1" * 64, "prompts_sha256": "1" * 64}
    assert comparability.reasons([a_run("a", record=facts), a_run("b", entry, facts | record)], NAME) == said


def test_versions_precision_and_decoding_are_remarked_and_no_reason() -> None:
    old, new = {"torch": "2.6.0", "numpy": "1"}, {"torch": "2.7.0", "numpy": "2"}
    runs = [
        a_run("a", versions=old, precision="bfloat16", decoding="greedy"),
        a_run("b", versions=old, precision="float16", decoding="greedy"),
        a_run("c", versions=new),
    ]
    assert comparability.reasons(runs, NAME) == []
    assert comparability.remarks(runs, [NAME]) == [
        "The runs differ in the version of torch: 2.6.0 in a and b; 2.7.0 in c.",
        "The runs differ in precision: bfloat16 in a; float16 in b.",
    ]
    assert comparability.remarks(runs[:1], [NAME]) == []


def test_what_differs_is_asked_of_the_benchmarks_own_record_and_not_of_the_last_command() -> None:
    """A second command into a run's folder says with what it was made; the first one's answers were made otherwise."""
    old, new = {"versions": {"torch": "2.6.0"}}, {"versions": {"torch": "2.7.0"}}
    one = a_run("a", record={"made": old}, **new)
    assert comparability.remarks([one, a_run("b", record={"made": old}, **old)], [NAME]) == []
    assert comparability.remarks([one, a_run("b", record={"made": new}, **new)], [NAME]) == [
        "The runs differ in the version of torch: 2.6.0 in a; 2.7.0 in b."
    ]
    assert comparability.remarks([one, a_run("b", record={"made": new}, **new)], ["MMVet"]) == []
    sizes = [a_run(name, record={"made": {"batch_size": size}}) for name, size in (("a", 1), ("b", 64))]
    assert comparability.remarks(sizes, [NAME]) == ["The runs differ in batch size: 1 in a; 64 in b."]


def test_the_notes_name_judges_limits_gaps_and_reasons() -> None:
    one = a_run("a", {"limit": 5}, unscored={"MathVista_MINI": "judge unavailable: no answer."})
    one.benchmarks["MMVet"] = {"overall": 1.0, "scale": 100.0, "judge": "gpt-4-turbo"}
    one.benchmarks["TextVQA_VAL"] = {"overall": 1.0, "scale": 100.0, "judge": "exact_matching"}
    assert comparability.notes([one, a_run("b")], GROUPS["paper"]) == (
        "AI2D: exact matching, no judge.",
        "MM-Vet: judged by gpt-4-turbo.",
        "AI2D: only a part was asked (limit 5, all).",
        "AI2D: the runs cannot be compared: other limits (5, all).",
        "a, MathVista: not scored: judge unavailable: no answer.",
    )


def whole(**manifest: Any) -> Run:
    """All nine, each 50 of 100 except MME, which is 75 of 100."""
    entries = {name: {"overall": 50.0, "scale": 100.0, "judge": None} for name in GROUPS["paper"]}
    entries["MME"] = {"overall": 2100.0, "scale": 2800.0, "judge": None}
    return Run("a", Path(), entries, Manifest.read(manifest))


def test_the_mean_needs_all_nine_asked_alike() -> None:
    nine = GROUPS["paper"]
    assert comparability.mean(whole(), nine).value == pytest.approx((8 * 50 + 75) / 9)
    held_back = {
        f"MMBench_TEST_{tag}": f"no answers in the table: {tag}.xlsx is to be submitted" for tag in ("EN", "CN")
    }
    run = whole(unscored=held_back | {"MME": "judge unavailable: refused"})
    for name in ("MMBench_TEST_EN", "MMBench_TEST_CN", "MMVet", "MME"):
        del run.benchmarks[name]
    assert comparability.mean(run, nine) == comparability.Mean(
        None, "missing MM-Vet; MMB-EN, MMB-CN: no answers in the table; MME: judge unavailable"
    )
    # a score that is left of an earlier judge does not count
    run = whole(unscored={"MMVet": "judge unavailable"})
    assert comparability.mean(run, nine) == comparability.Mean(None, "MM-Vet: judge unavailable")


def test_limits_must_be_of_all_and_equal() -> None:
    nine = GROUPS["paper"]
    run = whole()
    run.benchmarks["MME"]["limit"] = 5
    assert comparability.mean(run, nine).reason == "only a part of MME was asked"
    for entry in run.benchmarks.values():
        entry["limit"] = 5
    assert comparability.mean(run, nine).value == pytest.approx((8 * 50 + 75) / 9)
    run.benchmarks["MME"]["limit"] = 6
    assert comparability.mean(run, nine).reason == "limits differ: 5, 6"


def test_what_cannot_be_read_is_counted_by_what_was_made_of_it() -> None:
    """Multiple choice with and without a judge, MME, a judge's verdicts on open answers, and nothing."""
    rules = {"overall": 50.0, "scale": 100.0, "judge": "exact_matching", "parse_failures": 3, "judge_failures": 0}
    judged = rules | {"judge": "m", "parse_failures": 5, "judge_failures": 1}
    mme = {"overall": 1.0, "scale": 2800.0, "judge": "m", "perception": 1.0, "parse_failures": 2}
    grades = {"overall": 50.0, "scale": 100.0, "judge": "m", "parse_failures": 4}
    clean = {"overall": 50.0, "scale": 100.0, "judge": "m", "parse_failures": 0}
    labels = {"overall": 50.0, "scale": 100.0, "judge": "exact_matching", "parse_failures": 6, "beyond_options": 1}
    runs = [
        Run("a", Path(), {"AI2D_TEST": rules, "MME": mme, "MMVet": grades, "boolq": labels}),
        Run("b", Path(), {"AI2D_TEST": judged, "MMVet": clean}),
    ]
    said = comparability.notes(runs, ("AI2D_TEST", "MME", "MMVet", "boolq"))
    assert [line for line in said if "read" in line or "name" in line or "label" in line] == [
        "Answers that name no option, neither yes nor no, or nothing at all; VLMEvalKit's rule decides their score: "
        "AI2D (a 3); MME (a 2).",
        "Answers that name no option, left to the judge where VLMEvalKit reads none either: AI2D (b 5).",
        "Verdicts of the judge that cannot be read, counted as wrong: AI2D (b 1); MM-Vet (a 4).",
        "Answers without a label of their set, wrong as in the authors' program: BoolQ (a 6).",
    ]


def test_of_many_models_how_far_the_counts_reach() -> None:
    entry = {"overall": 50.0, "scale": 100.0, "judge": "exact_matching", "judge_failures": 0}
    runs = [Run(f"m{count}", Path(), {"AI2D_TEST": entry | {"parse_failures": count}}) for count in (0, 3, 7, 5)]
    assert any(line.endswith(": AI2D (0 to 7 a model).") for line in comparability.notes(runs, ("AI2D_TEST",)))


def test_what_a_score_notes_of_itself_is_said_once() -> None:
    entry = {"overall": 50.0, "scale": 100.0, "judge": None}
    runs = [
        Run("a", Path(), {"AI2D_TEST": entry | {"notes": ["2 rows were not asked.", "odd"]}}),
        Run("b", Path(), {"AI2D_TEST": entry | {"notes": ["2 rows were not asked"]}}),
    ]
    assert comparability.notes(runs, ("AI2D_TEST",)) == ("AI2D: 2 rows were not asked.", "a, AI2D: odd.")


def test_what_is_said_of_a_table_stands_beneath() -> None:
    left_out = {"rows": 2, "indices": ["7", "9"], "because": ["index 7, image: no picture", "index 9: no question"]}
    one = a_run("a", {"left_out": left_out, "notes": ["index 3, C: dropped"], "unanswerable": 1})
    two = a_run("b", {"left_out": left_out, "kit_fixes": ["lists", "options"]})
    found = comparability.notes([one, two], [NAME])
    assert "AI2D: 1 questions to which no answer can be right count as wrong." in found
    rows = "2 rows of the table were not asked (index 7, image: no picture; index 9: no question)"
    assert f"AI2D: {rows}." in found
    assert "a, AI2D: index 3, C: dropped." in found
    assert "b, AI2D: corrected (--kit-fixes): lists; options." in found


def test_verdicts_answers_and_departures_are_named_by_question() -> None:
    mine = {"overall": 50.0, "scale": 100.0, "judge": "m", "parse_failures": 2}
    grades = mine | {
        "unread_verdicts": {"v1_17": "a refusal", "v1_2": "an empty reply"},
        "unanswered": {str(index): "it answered 400" for index in range(7, 14)},
        "judge_departures": ["one", "two"],
    }
    mme = mine | {"perception": 1.0, "unread_verdicts": {"3": "a refusal"}, "judge_departures": ["one"]}
    said = comparability.notes([Run("a", Path(), {"MMVet": grades, "MME": mme})], ("MMVet", "MME"))
    assert said[1:] == (
        "a, MM-Vet: 7 questions got no answer, counted as wrong: 7, 8, 9, 10, 11, ....",
        "MM-Vet, MME: one.",
        "MM-Vet: two.",
        "Verdicts of the judge that cannot be read, counted as wrong: MM-Vet (a 2: v1_2, v1_17); MME (a 1: 3).",
        "Answers that name no option, neither yes nor no, or nothing at all; VLMEvalKit's rule decides their score: "
        "MME (a 2).",
    )
