"""Changed answers: pairing, classes, counts, choice, the list of all, and what the page gets of them."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.report import changed
from moslora_xtuner.eval.results import changed_answers
from moslora_xtuner.eval.results.changed_answers import CHANGED, GAINED, LOST, SAME, UNTOLD, Answered
from moslora_xtuner.eval.results.scores import Run

NAME = "AI2D_TEST"


def said(index: int, prediction: str, hit: float | None, ability: str = "AR") -> dict[str, Any]:
    """A line of answers/DATASET.jsonl whose right answer is A."""
    return {
        "index": str(index),
        "unit": str(index),
        "ability": ability,
        "question": f"Question {index}?",
        "options": {"A": "yes", "B": "no"},
        "answer": "A",
        "prediction": prediction,
        "hit": hit,
    }


def keep(folder: Path, lines: list[dict[str, Any]]) -> Path:
    """Write them as a run's answers to AI2D."""
    path = folder / "answers" / f"{NAME}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def answers(folder: Path, lines: list[dict[str, Any]]) -> dict[str, Answered]:
    return changed_answers.read(keep(folder, lines), NAME)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (("B", 0.0), ("A", 1.0), GAINED),
        (("A", 1.0), ("B", 0.0), LOST),
        (("B", 0.0), ("C", 0.0), CHANGED),
        (("A", 1.0), ("A.", 1.0), CHANGED),
        (("A", 1.0), (" A\n", 1.0), SAME),
        (("7", 0.3), ("8", 0.6), GAINED),
        (("7", 0.6), ("8", 0.3), LOST),
        (("A", None), ("B", 1.0), UNTOLD),
        (("A", 0.0), ("B", None), UNTOLD),
        (("A", None), ("A", None), SAME),
    ],
)
def test_classes(before: tuple[str, float | None], after: tuple[str, float | None], kind: str, tmp_path: Path) -> None:
    one = answers(tmp_path / "a", [said(1, *before)])["1"]
    assert changed_answers.classify(one, answers(tmp_path / "b", [said(1, *after)])["1"]) == kind


def four(tmp_path: Path) -> changed_answers.Paired:
    """Gained 1, lost 2, another text 3, the same 4; 5 and 6 were asked of one run only."""
    base = [said(1, "B", 0.0), said(2, "A", 1.0, "CP"), said(3, "B", 0.0), said(4, "A", 1.0), said(5, "A", 1.0)]
    mine = [said(4, "A", 1.0), said(3, "C", 0.0), said(2, "B", 0.0, "CP"), said(1, "A", 1.0), said(6, "A", 1.0)]
    return changed_answers.pair("mine", NAME, answers(tmp_path / "a", base), answers(tmp_path / "b", mine))


def test_pairs_and_counts(tmp_path: Path) -> None:
    paired = four(tmp_path)
    assert [(change.before.index, change.kind) for change in paired.changes] == [
        ("1", GAINED),
        ("2", LOST),
        ("3", CHANGED),
        ("4", SAME),
    ]
    assert paired.unpaired == 2
    assert paired.counts() == Counter({GAINED: 1, LOST: 1, CHANGED: 1, SAME: 1})
    assert paired.by_ability() == {"AR": Counter({GAINED: 1, CHANGED: 1, SAME: 1}), "CP": Counter({LOST: 1})}


def test_another_question_under_one_index_is_refused(tmp_path: Path) -> None:
    other = said(1, "A", 1.0) | {"question": "Another?"}
    one, two = answers(tmp_path / "a", [said(1, "A", 1.0)]), answers(tmp_path / "b", [other])
    with pytest.raises(DataError, match="index 1 is another question"):
        changed_answers.pair("mine", NAME, one, two)


def test_what_is_shown_first(tmp_path: Path) -> None:
    # 0-2 another text, 3-6 gained, 7-8 lost
    base = [said(i, "B", 0.0) for i in range(7)] + [said(i, "A", 1.0) for i in (7, 8)]
    mine = [said(i, "C", 0.0) for i in range(3)]
    mine += [said(i, "A", 1.0) for i in range(3, 7)] + [said(i, "B", 0.0) for i in (7, 8)]
    paired = changed_answers.pair("m", NAME, answers(tmp_path / "a", base), answers(tmp_path / "b", mine))
    assert changed_answers.chosen([paired], 100) == (["3", "7", "4", "8", "5", "6", "0", "1", "2"], 0)
    assert changed_answers.chosen([paired], 4) == (["3", "7", "4", "8"], 5)
    assert changed_answers.chosen([], 4) == ([], 0)


def test_the_list_holds_every_change(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(changed_answers.as_csv([four(tmp_path)]))))
    assert [(row["index"], row["change"], row["baseline prediction"], row["prediction"]) for row in rows] == [
        ("1", "gained", "B", "A"),
        ("2", "lost", "A", "B"),
        ("3", "changed", "B", "C"),
    ]
    assert {(row["model"], row["dataset"], row["answer"]) for row in rows} == {("mine", NAME, "A")}
    assert rows[1]["ability"] == "CP"


def test_broken_lines_are_named(tmp_path: Path) -> None:
    assert changed_answers.read(tmp_path, NAME) == {}
    path = keep(tmp_path, [said(1, "A", 1.0)]) / "answers" / f"{NAME}.jsonl"
    path.write_text(path.read_text() + '{"index": 2}\n')
    with pytest.raises(DataError, match=r"AI2D_TEST\.jsonl, line 2 is broken"):
        changed_answers.read(tmp_path, NAME)
    keep(tmp_path, [said(1, "A", 1.0)] * 2)
    with pytest.raises(DataError, match="index 1 stands there twice"):
        changed_answers.read(tmp_path, NAME)


def two_runs(tmp_path: Path, **second: Any) -> list[Run]:
    """A baseline wrong in 300 questions, and a run that is right in all of them."""
    keep(tmp_path / "a", [said(i, "B", 0.0) for i in range(300)])
    keep(tmp_path / "b", [said(i, "A", 1.0) for i in range(300)])
    entry = {"overall": 0.0, "scale": 100.0, "judge": None}
    return [Run("base", tmp_path / "a", {NAME: entry}), Run("mine", tmp_path / "b", {NAME: entry | second})]


def test_the_page_is_bounded_and_says_so(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    paired, faults = changed.pair_all(runs, runs[0])
    page = changed.page(paired, faults, runs, runs[0])
    assert page is not None
    (item,) = page["datasets"]
    assert len(item["cards"]) == 200
    assert item["kinds"] == ["gained", "lost", "changed", "same"]
    assert item["counts"] == [["mine", 300, 0, 0, 0]]
    assert item["abilities"] == [["AR", "mine", 300, 0, 0, 0]]
    assert page["overview"].rows == [["AI2D", "▲\u00a0300\u2003▼\u00a00\u2003≠\u00a00"]]
    assert any("left off here: 100." in note for note in item["notes"])
    assert any(note.startswith("No pictures:") for note in item["notes"])
    card = item["cards"][0]
    assert (card["before"]["text"], card["answers"][0]["text"], card["answers"][0]["tag"]) == ("B", "A", "0:gained")


def test_runs_that_cannot_be_compared_are_not_paired(tmp_path: Path) -> None:
    runs = two_runs(tmp_path, judge="gpt-4o-mini")
    paired, faults = changed.pair_all(runs, runs[0])
    assert paired == []
    assert "AI2D, mine: the answers cannot be compared: other judges" in faults[0]
    bare = [Run("base", tmp_path / "none", runs[0].benchmarks), runs[1]]
    assert changed.pair_all(bare, bare[0]) == ([], [])
    assert changed.page([], [], bare, bare[0]) is None


def test_answers_of_which_nobody_says_what_they_are_worth_have_a_column(tmp_path: Path) -> None:
    runs = two_runs(tmp_path)
    keep(tmp_path / "b", [said(i, "A", None if i else 1.0) for i in range(3)])
    paired, faults = changed.pair_all(runs, runs[0])
    page = changed.page(paired, faults, runs, runs[0])
    assert page is not None
    assert page["untold"]
    (item,) = page["datasets"]
    assert item["kinds"] == ["gained", "lost", "changed", "untold", "same"]
    assert item["counts"] == [["mine", 1, 0, 0, 2, 0]]
    assert [card["index"] for card in item["cards"]] == ["0", "1", "2"]
    assert [row.split(",")[4] for row in changed_answers.as_csv(paired).splitlines()[1:]] == [
        "gained",
        "untold",
        "untold",
    ]


def test_units_are_counted_as_they_are_scored(tmp_path: Path) -> None:
    # Two rotations each of four questions: of a group one may be gained and another lost.
    runs = two_runs(tmp_path, unit="circular group", judge=None)
    for run, scores in zip(runs, ((1, 0, 0, 1), (1, 1, 1, 0)), strict=True):
        run.benchmarks[NAME] = run.benchmarks[NAME] | {"unit": "circular group"}
        (run.folder / "outcomes").mkdir()
        lines = (json.dumps({"unit": str(i), "ability": "", "score": score}) for i, score in enumerate(scores))
        (run.folder / "outcomes" / f"{NAME}.jsonl").write_text("\n".join(lines))
    page = changed.page(*changed.pair_all(runs, runs[0]), runs, runs[0])
    assert page is not None
    assert "As they are scored, by circular group: mine 2 better, 1 worse." in page["datasets"][0]["notes"]
