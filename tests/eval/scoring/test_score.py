"""VLMEvalKit's scores of hand-made answers, against values worked out by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.scoring.score import Place, Scored, score
from moslora_xtuner.eval.tasks import registry, tables
from moslora_xtuner.eval.tasks.prompts import build
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS

Answer = Callable[[dict[str, Any]], str]


def run(name: str, root: Path, work: Path, answer: Answer, limit: int | None = None) -> Scored:
    """Score `answer(row)` for every row of a benchmark."""
    benchmark, log = BENCHMARKS[name], work / "log"
    dataset = tables.build_dataset(benchmark, root, log)
    asked = ask_all(benchmark, dataset, root, limit)
    answers = [answer(dataset.data.iloc[item.place].to_dict()) for item in asked]
    return score(Task(benchmark, dataset, asked), answers, Place(work / "vlmeval", "m", root, log))


def mixed(row: dict[str, Any]) -> str:
    """Right, but: AR wrong in rotation 1, CP unreadable in rotation 0, LR by the option's text."""
    index = int(row["index"])
    question, turn = index % registry.OFFSET, index // registry.OFFSET
    if question == 1 and turn == 1:
        return "A" if row["answer"] == "B" else "B"
    if question == 2 and turn == 0:
        return "hm"
    if question == 5:
        return str(row[row["answer"]])
    return f"{row['answer']}."


@pytest.mark.parametrize("name", ["DigitsMMBench_EN", "DigitsMMBench_CN"])
def test_multiple_choice(name: str, data_root: Path, tmp_path: Path) -> None:
    found = run(name, data_root, tmp_path, mixed)
    entry = found.entry
    assert entry["overall"] == pytest.approx(100 * 4 / 6)
    assert entry["abilities"] == {"AR": 0, "CP": 0, "FP-C": 100, "FP-S": 100, "LR": 100, "RR": 100}
    assert entry["vanilla"]["overall"] == pytest.approx(100 * 5 / 6)
    assert entry["vanilla"]["abilities"] == {
        "AR": 100,
        "CP": 0,
        "FP-C": 100,
        "FP-S": 100,
        "LR": 100,
        "RR": 100,
    }
    assert entry["parse_failures"] == 1
    assert entry["judge"] == "exact_matching"
    assert (entry["questions"], entry["units"]) == (18, 6)
    assert entry["chance"]["overall"] == pytest.approx(100 * (2 / 4 + 2 / 27 + 2 / 256) / 6)
    assert entry["chance"]["abilities"]["FP-S"] == pytest.approx(100 / 256)
    assert entry["chance"]["vanilla"]["overall"] == pytest.approx(100 * (2 / 2 + 2 / 3 + 2 / 4) / 6)
    assert {row["unit"]: row["score"] for row in found.outcomes} == {
        "1": 0,
        "2": 0,
        "3": 1,
        "4": 1,
        "5": 1,
        "6": 1,
    }


def test_the_scratch_file_is_this_runs_own_and_goes(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmeval.dataset.utils import multiple_choice

    stock, read, seen = multiple_choice.timestr, multiple_choice.load, []

    def load(path: str) -> Any:
        if path.startswith("/tmp/.."):
            seen.append(Path(path).resolve())
            assert seen[-1].is_file()
        return read(path)

    monkeypatch.setattr(multiple_choice, "load", load)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for work in ("a", "b"):
        run("DigitsMMBench_EN", data_root, tmp_path / work, mixed)
    assert len(set(seen)) == 2
    assert all(tmp_path.resolve() in path.parents and not path.exists() for path in seen)
    assert multiple_choice.timestr is stock


def test_mme(data_root: Path, tmp_path: Path) -> None:
    def answer(row: dict[str, Any]) -> str:
        second = str(row["image_path"]).endswith("/1.png")
        if row["category"] == "position":
            return "Yes"
        if row["category"] == "count":
            return "Yes" if second else f"{row['answer']}."
        return "Maybe" if second and row["answer"] == "No" else str(row["answer"]).lower()

    found = run("DigitsMME", data_root, tmp_path, answer)
    # count: 3 of 4 right, 1 of 2 pairs; position: 2 of 4, no pair; numerical_calculation: 3 of 4, 1 of 2
    assert found.entry["abilities"] == {"count": 125, "position": 50, "numerical_calculation": 125}
    assert found.entry["perception"] == 175
    assert found.entry["cognition"] == 125
    assert (found.entry["overall"], found.entry["scale"]) == (300, 600)
    assert found.entry["parse_failures"] == 1
    assert sorted(row["score"] for row in found.outcomes) == [50, 50, 50, 50, 200, 200]


def test_short_answers(data_root: Path, tmp_path: Path) -> None:
    found = run("DigitsTextVQA", data_root, tmp_path, lambda row: ["7", "twelve", "3", "LEFT."][row["index"]])
    # VQA accuracy: min(1, others that agree / 3), left out one at a time; "twelve" is not "12" there
    assert found.hits == {"0": 1.0, "1": 0.0, "2": pytest.approx((3 * 2 / 3 + 7) / 10), "3": 1.0}
    assert found.entry["overall"] == pytest.approx(100 * 2.9 / 4)
    assert found.entry["judge"] is None


def test_stale_files_never_reach_a_score(data_root: Path, tmp_path: Path) -> None:
    for answer, expected in (("Yes", 300 / 2), ("No", 300 / 2), ("?", 0)):
        found = run("DigitsMME", data_root, tmp_path, lambda row, text=answer: text)  # type: ignore[misc]
        assert found.entry["overall"] == expected
        assert found.entry["parse_failures"] == (12 if answer == "?" else 0)


def test_an_answer_like_a_formula_stays_a_text(data_root: Path, tmp_path: Path) -> None:
    run("DigitsTextVQA", data_root, tmp_path, lambda row: "=1+6")
    table = pandas.read_excel(tmp_path / "vlmeval" / "m_DigitsTextVQA.xlsx")
    assert list(table["prediction"]) == ["=1+6"] * 4


def test_rotation_one_of_question_zero_is_no_vanilla_question(data_root: Path, tmp_path: Path) -> None:
    frame = pandas.read_csv(data_root / "DigitsMMBench_EN.tsv", sep="\t")
    frame["index"] -= 1
    turned = frame["image"].str.len() < 64
    frame.loc[turned, "image"] = [str(int(text) - 1) for text in frame.loc[turned, "image"]]
    frame.to_csv(tmp_path / "DigitsMMBench_EN.tsv", sep="\t", index=False)

    def answer(row: dict[str, Any]) -> str:
        wrong = {"A": "B", "B": "A"}.get(row["answer"], "A")
        return str(wrong if row["index"] == 1_000_000 else row["answer"])

    found = run("DigitsMMBench_EN", tmp_path, tmp_path, answer)
    assert found.entry["vanilla"]["overall"] == 100
    assert found.entry["overall"] == pytest.approx(100 * 5 / 6)


def test_numbers_in_columns_with_gaps_stay_whole(data_root: Path, tmp_path: Path) -> None:
    benchmark = BENCHMARKS["DigitsMMBench_EN"]
    dataset = tables.build_dataset(benchmark, data_root, tmp_path / "log")
    row = dataset.data[dataset.data["index"] == 2].iloc[0].to_dict()
    assert build(benchmark, row) == (
        "How many digits are there?\nA. 1\nB. 2\nC. 3\nAnswer with the option's letter from the given choices directly."
    )
    chinese = BENCHMARKS["DigitsMMBench_CN"]
    assert build(chinese, row).endswith("C. 3\n请直接回答选项字母。")
    assert build(BENCHMARKS["DigitsTextVQA"], {"question": "Which?"}) == (
        "Which?\nAnswer the question using a single word or phrase."
    )


def test_a_limit_takes_whole_units_of_every_ability(data_root: Path, tmp_path: Path) -> None:
    benchmark = BENCHMARKS["DigitsMME"]
    dataset = tables.build_dataset(benchmark, data_root, tmp_path / "log")
    asked = ask_all(benchmark, dataset, data_root, 3)
    assert len(asked) == 6
    assert {item.ability for item in asked} == {"count", "position", "numerical_calculation"}
    found = run("DigitsMMBench_EN", data_root, tmp_path, lambda row: str(row["answer"]), limit=2)
    assert found.entry["units"] == 2
    assert found.entry["overall"] == 100


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("DigitsMME", lambda f: f.drop(columns="question"), "no column question"),
        ("DigitsMME", lambda f: f.iloc[1:], "needs two"),
        ("DigitsMME", lambda f: f.assign(index=1), "twice"),
        ("DigitsMME", lambda f: f.iloc[:0], "no question"),
        ("DigitsMME", lambda f: f.assign(image="x" * 70), "no base64"),
        ("DigitsMMBench_EN", lambda f: f.assign(image="999"), "nor the index of a row"),
        ("DigitsMMBench_EN", lambda f: f[f["index"] != 6].assign(image=f["image"][0]), "rotations of 6"),
    ],
)
def test_broken_tables_are_named(
    name: str, change: Callable[[Any], Any], message: str, data_root: Path, tmp_path: Path
) -> None:
    change(pandas.read_csv(data_root / f"{name}.tsv", sep="\t")).to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match=message):
        run(name, tmp_path, tmp_path, lambda row: "A")


def test_a_missing_table_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nothing is downloaded"):
        tables.build_dataset(BENCHMARKS["MMBench_TEST_EN"], tmp_path, tmp_path / "log")


def test_a_partial_mme_has_no_score(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "MME.tsv").write_bytes((data_root / "DigitsMME.tsv").read_bytes())
    with pytest.raises(DataError, match="OCR"):
        run("MME", tmp_path, tmp_path, lambda row: "Yes")


def test_an_empty_answer_does_not_turn_the_others_into_decimals(data_root: Path, tmp_path: Path) -> None:
    answers = ["7", "12", "8", ""]
    found = run("DigitsTextVQA", data_root, tmp_path, lambda row: answers[row["index"]])
    assert found.hits == {"0": 1.0, "1": 1.0, "2": 1.0, "3": 0.0}


def test_an_answer_that_no_xml_may_hold_is_scored_all_the_same(data_root: Path, tmp_path: Path) -> None:
    answers = ["7", "12\x00", "\ud800", "\ufffe"]
    found = run("DigitsTextVQA", data_root, tmp_path, lambda row: answers[row["index"]])
    assert found.hits == {"0": 1.0, "1": 0.0, "2": 0.0, "3": 0.0}


def test_a_part_of_mme_has_points_for_the_subtasks_that_were_asked(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "MME.tsv").write_bytes((data_root / "DigitsMME.tsv").read_bytes())
    found = run("MME", tmp_path, tmp_path, lambda row: str(row["answer"]), limit=2)
    assert (found.entry["overall"], found.entry["scale"]) == (400, 400)

    from vlmeval.dataset.utils import yorn

    def strict(file: str) -> Any:  # as VLMEvalKit's main of August 2026: every category is asked for
        frame = yorn.load(file)
        missing = [
            name for name in (*registry.MME_PERCEPTION, *registry.MME_COGNITION) if name not in set(frame["category"])
        ]
        assert not missing
        return rating(file)

    rating = yorn.MME_rating
    monkeypatch.setattr(yorn, "MME_rating", strict)
    found = run("DigitsMME", data_root, tmp_path, lambda row: str(row["answer"]))
    assert (found.entry["overall"], found.entry["scale"]) == (600, 600)
    assert set(found.entry["abilities"]) == {"count", "position", "numerical_calculation"}
