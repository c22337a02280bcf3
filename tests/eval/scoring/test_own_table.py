"""Scores of tables of one's own, worked out by hand, through the whole evaluation with a served model and judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from judge_server import serving
from small_tables import png64, write_tsv

from moslora_xtuner.errors import EvaluationError, UsageError
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.report.score_table import table
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.settings import Settings

# The right answer, what the model says, the score by hand.
CHOICE = [
    ("A", "A", 1), ("B", "B.", 1), ("A", "the red one", 1), ("B", "red", 0), ("A", "I cannot say", 0),
]  # fmt: skip
YES_NO = [
    ("yes", "Yes", 1), ("No", "no.", 1), ("no", "No, there is none", 1), ("yes", "no", 0), ("yes", "perhaps", 0),
]  # fmt: skip
SHORT = [
    ("red", "Red.", 1), ("7", "seven", 1), ('["a cup", "mug"]', "the mug", 1), ('["a cup", "mug"]', "cups", 0),
    ("NA", "na", 1), ("blue", "", 0),
]  # fmt: skip
OPEN = [("a red cup", "0.5", 0.5), ("two", "1.0", 1), ("none", "nan", 0), ("three", "rather good", 0)]
"""Of open questions the second is what the judge says of it."""


def write(folder: Path, name: str, cases: list[Any]) -> Path:
    rows = [
        {"question": f"Q{number}?", "A": "red", "B": "blue", "answer": right, "image": png64(number),
         "category": "even" if number % 2 == 0 else "odd"}
        for number, (right, _, _) in enumerate(cases)
    ]  # fmt: skip
    write_tsv(folder / f"{name}.tsv", rows)
    return folder / f"{name}.tsv"


def run(tmp_path: Path, word: str, says: Any, **settings: Any) -> scores.Run:
    with serving() as server:
        server.says = says
        judge = f"judge@{server.url}" if settings.pop("judged", False) else ()
        (folder,) = evaluate(
            [f"openai:m@{server.url}"], [word], None, tmp_path / "out",
            Settings(judge=judge, judge_retries=0, quiet=True, **settings),
        )  # fmt: skip
    return scores.read(folder)


@pytest.mark.parametrize(
    ("name", "kind", "cases"),
    # Names by parts of which VLMEvalKit would take another rule: circular, MME's pairs, TextVQA's ten people.
    [("mmbench_cups", "choice", CHOICE), ("MME_cups", "yes-no", YES_NO), ("TextVQA_cups", "short-answer", SHORT)],
)
def test_scores_by_hand(tmp_path: Path, name: str, kind: str, cases: list[Any]) -> None:
    file = write(tmp_path, name, cases)
    said = {f"Q{number}?": text for number, (_, text, _) in enumerate(cases)}
    found = run(tmp_path, f"{file}:{kind}", lambda prompt: said[prompt.partition("\n")[0]])
    entry = found.benchmarks[name]
    hits = [hit for _, _, hit in cases]
    assert entry["overall"] == pytest.approx(100 * sum(hits) / len(hits))
    assert entry["abilities"] == pytest.approx(
        {"even": 100 * sum(hits[::2]) / len(hits[::2]), "odd": 100 * sum(hits[1::2]) / len(hits[1::2])}
    )
    assert entry["unit"] == "question"
    assert entry["scale"] == 100
    assert entry["questions"] == len(cases)
    page = write_report([found.folder], tmp_path / "report").read_text(encoding="utf-8")
    assert name in page
    assert f"{entry['overall']:.1f}" in table([found.folder])


def test_open_answers_are_graded_by_the_judge_with_mmvets_prompt(tmp_path: Path) -> None:
    file = write(tmp_path, "stories", OPEN)

    def says(prompt: str) -> str:
        if not prompt.startswith("\nCompare the ground truth"):
            return f"my answer to {prompt}"
        last = prompt.splitlines()[-1]
        number = int(last[1])
        assert last == f"Q{number}? | {OPEN[number][0]} | my answer to Q{number}? | "
        return OPEN[number][1]

    entry = run(tmp_path, f"{file}:open", says, judged=True).benchmarks["stories"]
    assert entry["overall"] == pytest.approx(100 * 1.5 / 4)
    assert entry["abilities"] == pytest.approx({"even": 25, "odd": 50})
    assert entry["judge"] == "judge"
    assert entry["parse_failures"] == 2


def test_without_a_judge_open_answers_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    file = write(tmp_path, "stories", OPEN)
    with pytest.raises(EvaluationError, match="no score under exact_matching: stories"):
        run(tmp_path, f"{file}:open", str.upper)
    assert not (tmp_path / "out").exists()


def test_a_table_without_answers_gives_what_was_said_and_no_score(tmp_path: Path) -> None:
    rows = [{"question": "Q?", "image": png64(1)}, {"question": "R?", "image": png64(2)}]
    write_tsv(tmp_path / "bare.tsv", rows)
    found = run(tmp_path, f"{tmp_path / 'bare.tsv'}:open", str.upper, judged=True)
    assert not found.benchmarks
    assert "no answers in the table" in found.manifest.unscored["bare"]
    assert (found.folder / "predictions" / "bare.jsonl").is_file()


def test_two_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "cups", CHOICE)
    words = [f"{tmp_path / folder / 'cups.tsv'}:choice" for folder in ("a", "b")]
    with pytest.raises(UsageError, match="Two tables are named cups"):
        evaluate(["openai:m@http://127.0.0.1:1/v1"], words, None, tmp_path / "out")
