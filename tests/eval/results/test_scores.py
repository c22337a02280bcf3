"""scores.json: the schema, the mean and its gaps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.results import bootstrap, changed_answers, scores
from moslora_xtuner.eval.results.manifest import Manifest

GOOD = {
    "model": "m",
    "benchmarks": {
        "MME": {
            "overall": 1400,
            "scale": 2800,
            "judge": "exact_matching",
            "parse_failures": 0,
            "abilities": {},
        },
        "AI2D_TEST": {
            "overall": 61.4,
            "scale": 100,
            "judge": None,
            "parse_failures": 2,
            "abilities": {"a": 1},
        },
    },
    "manifest": {},
}


def broken(**changes: object) -> dict[str, object]:
    """GOOD with fields of its MME entry replaced."""
    copy = json.loads(json.dumps(GOOD))
    copy["benchmarks"]["MME"].update(changes)
    return copy


def test_read_normalises_to_a_hundred(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(GOOD))
    run = scores.read(tmp_path)
    assert run.normalised("MME") == 50.0
    assert run.normalised("AI2D_TEST") == 61.4
    assert run.normalised("MMVet") is None


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (broken(overall="high"), "benchmarks.MME.overall"),
        (broken(overall=2801), "benchmarks.MME.overall"),
        (broken(overall=float("nan")), "benchmarks.MME.overall"),
        (broken(scale=0), "benchmarks.MME.scale"),
        (broken(scale=True), "benchmarks.MME.scale"),
        (broken(judge=7), "benchmarks.MME.judge"),
        (broken(abilities=[1]), "benchmarks.MME.abilities"),
        (broken(abilities={"AR": "x"}), "benchmarks.MME.abilities.AR"),
        (broken(parse_failures=-1), "benchmarks.MME.parse_failures"),
        (broken(unread_verdicts=["3"]), "benchmarks.MME.unread_verdicts"),
        (broken(unanswered=2), "benchmarks.MME.unanswered"),
        ({**GOOD, "model": ""}, "model"),
        ({**GOOD, "benchmarks": []}, "benchmarks"),
        ({**GOOD, "manifest": 3}, "manifest"),
        ([], "the top"),
    ],
)
def test_a_wrong_field_is_named_with_the_file(tmp_path: Path, content: object, field: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        scores.read(tmp_path)
    assert str(path) in str(caught.value)
    assert field in str(caught.value)


def test_no_file_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no evaluated run"):
        scores.read(tmp_path)
    (tmp_path / "scores.json").write_text('{"model":')
    with pytest.raises(DataError, match="cannot be read as JSON"):
        scores.read(tmp_path)


def test_write_refuses_what_read_would(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"MME\.scale"):
        scores.write(tmp_path, "m", {"MME": {"overall": 1, "judge": None}}, Manifest())
    assert not list(tmp_path.iterdir())
    scores.write(tmp_path, "m", GOOD["benchmarks"], Manifest(facts={"a": 1}))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert scores.read(tmp_path).manifest == Manifest(facts={"a": 1})


def test_the_mean_needs_every_benchmark(tmp_path: Path) -> None:
    run = scores.Run("m", tmp_path, GOOD["benchmarks"])  # type: ignore[arg-type]
    assert scores.mean(run, ["MME", "AI2D_TEST"]).value == pytest.approx((50 + 61.4) / 2)
    gap = scores.mean(run, ["MME", "AI2D_TEST", "MMVet"])
    assert gap.value is None
    assert gap.reason == "missing MM-Vet"


def test_a_mean_over_parts_and_wholes_is_withheld(tmp_path: Path) -> None:
    entries = json.loads(json.dumps(GOOD["benchmarks"]))
    entries["MME"]["limit"] = 10
    found = scores.mean(scores.Run("m", tmp_path, entries), list(entries))
    assert found.value is None
    assert "MME" in found.reason


def test_json_that_is_nested_too_deep_is_broken_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deep"):
        scores.read(tmp_path)
    for name in ("outcomes", "answers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "MME.jsonl").write_text("[" * 100_000)
    with pytest.raises(DataError, match="nested too deep"):
        bootstrap.load(tmp_path, "MME", {"scale": 2800.0})
    with pytest.raises(DataError, match="nested too deep"):
        changed_answers.read(tmp_path, "MME")
