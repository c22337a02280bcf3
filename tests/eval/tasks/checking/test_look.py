"""The look at a table, on one small table for each kind of what can be odd; VLMEvalKit's own result beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kit_alone import Case, Generous, cases, kit_alone
from small_tables import circular_rows, mme_rows, png64, write_tsv

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.judges.base import AnyJudge, Ask, Reply, VerdictLog
from moslora_xtuner.eval.scoring.score import Place, score
from moslora_xtuner.eval.tasks import tables
from moslora_xtuner.eval.tasks.checking import answers, rows
from moslora_xtuner.eval.tasks.checking.finding import Weight
from moslora_xtuner.eval.tasks.checking.look import Look, part
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS
from moslora_xtuner.eval.tasks.tsv import NOTHING

CASES = cases()


class Agreeing(AnyJudge):
    """`Generous` as the judge of an evaluation here."""

    identity = address = "m"

    def _ask(self, text: str, ask: Ask) -> Reply:
        return Reply(Generous().generate(text))


def look_of(case: Case, folder: Path, *, kit_fixes: bool = False) -> Look:
    root = case.put(folder / "data")
    return tables.look_at(case.of, tables.read(case.of, root), root, kit_fixes=kit_fixes)


def scored(case: Case, found: Look, folder: Path, *, skip: int = 0, kit_fixes: bool = False) -> float:
    """The score here, per cent of the scale."""
    root, log = folder / "data", folder / "log"
    dataset = tables.build_dataset(case.of, root, log, part(found, skip).table, kit_fixes=kit_fixes)
    asked = ask_all(case.of, dataset, root, None)
    judge = Agreeing(VerdictLog(folder / "verdicts.jsonl"), workers=2) if case.of.needs_judge else None
    said = [case.answers[str(item.index)] for item in asked]
    place = Place(folder / "vlmeval", "m", root, log)
    name = "exact_matching" if judge is None else "m"
    entry = score(Task(case.of, dataset, asked), said, place, judge=name, verdicts=judge, fixes=kit_fixes).entry
    return 100 * float(entry["overall"]) / float(entry["scale"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_odd_is_found_and_the_score_is_the_one_worked_out_by_hand(case: Case, tmp_path: Path) -> None:
    found = look_of(case, tmp_path)
    said = [str(finding) for finding in found.findings]
    if case.says:
        assert any(re.search(case.says, line) for line in said), said
    else:
        assert not said
    assert bool(found.faults) is (case.here is None)
    if case.here is not None:
        assert scored(case, found, tmp_path) == pytest.approx(case.here)
        # Where nothing is said, or it is said that a cell is read as it was meant, the score is right.
        if not found.never_right:
            assert case.here == pytest.approx(case.right)
        return
    with pytest.raises(DataError, match="Nothing was asked"):
        part(found, 0)
    if case.skipped is not None:
        assert scored(case, found, tmp_path, skip=len(found.bad_rows())) == pytest.approx(case.skipped)
        whole = case.name in ("rotation_lacking",)  # the group whose rotation is missing is left out, right or wrong
        assert whole or case.skipped == pytest.approx(case.right)


@pytest.mark.parametrize("case", [item for item in CASES if item.fixed is not None], ids=lambda case: case.name)
def test_with_the_kits_fixes_the_score_is_the_one_worked_out_by_hand(case: Case, tmp_path: Path) -> None:
    assert case.here != pytest.approx(case.right)
    found = look_of(case, tmp_path, kit_fixes=True)
    assert not found.findings
    assert scored(case, found, tmp_path, kit_fixes=True) == pytest.approx(case.right) == pytest.approx(case.fixed)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_vlmevalkit_alone(case: Case, tmp_path: Path) -> None:
    """What stands in the table of docs/evaluation.md is what the installed release makes of these tables."""
    assert kit_alone(case, tmp_path) == case.kit


def test_every_table_is_a_case() -> None:
    folder = Path(__file__).resolve().parents[2] / "cases"
    assert {path.stem for path in folder.glob("*.tsv")} == {case.name for case in CASES}
    assert len({case.kind for case in CASES}) == len(CASES)


def test_pandas_takes_the_same_words_for_nothing() -> None:
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(NOTHING) == set(STR_NA_VALUES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "14.0"}, None),  # in a column of numbers pandas reads 14
        ({"answer": "14.5"}, "'14.5' is no integer (answer_type): VLMEvalKit compares with 14"),
        ({"answer": "inf"}, "'inf' is no integer (answer_type): no answer is ever right"),
        ({"answer_type": "float", "answer": "0.5", "precision": "1.0"}, None),
        ({"answer_type": "float", "answer": "0.5", "precision": "inf"}, None),
        ({"answer_type": "float", "answer": "0.25", "precision": "1.0"}, "'0.25' is asked for with 1 decimal"),
        ({"answer_type": "float", "answer": "0.25", "precision": "1e9"}, None),
        ({"answer_type": "date", "answer": "1999"}, "the type 'date'"),
    ],
)
def test_numbers_of_mathvista(change: dict[str, str], said: str | None) -> None:
    row = {"question_type": "free_form", "answer_type": "integer", "answer": "14", "skills": "['x']", "precision": ""}
    found = list(answers.math_vista(row | change, kit_fixes=False, numbers=True))
    assert len(found) == (said is not None)
    assert said is None or found[0][1].startswith(said)


@pytest.mark.parametrize(
    ("index", "kept", "circular"),
    [
        ("7", True, True), ("0", True, True), ("-3", True, False), ("q7", True, False), ("a b", True, False),
        ("7.0", False, False), ("1e6", False, False), ("007", False, False), ("0x10", False, False),
        ("1_000", False, False), (" 7", False, False), ("True", False, False), ("NA", False, False),
        ("=7", False, False), ("9" * 17, False, False), ("inf", False, False),
    ],
)  # fmt: skip
def test_indices_that_are_found_again(index: str, kept: bool, circular: bool) -> None:
    assert (rows.odd(index, circular=False) is None) is kept
    assert (rows.odd(index, circular=True) is None) is circular


@pytest.mark.parametrize("column", ["category", "index"])
def test_what_a_spreadsheet_takes_for_a_formula(column: str, tmp_path: Path) -> None:
    case = next(item for item in CASES if item.name == "index_text")
    root = case.put(tmp_path)
    path = root / f"{case.benchmark}.tsv"
    old = {"category": "Scene Understanding", "index": "q1"}[column]
    path.write_text(path.read_text().replace(f"{old}\t", "=1+1\t", 1))
    (found,) = tables.look_at(case.of, tables.read(case.of, root), root).findings
    assert (found.column, found.weight) == (column, Weight.FAULT)
    assert "take it for a formula" in found.what


def test_everything_is_found_at_once_and_by_index_and_column(tmp_path: Path) -> None:
    rows = mme_rows()
    rows[0]["question"] = " "
    rows[3]["answer"] = "no"
    rows[4]["image"] = png64(1)[:200]
    rows[7]["category"] = "number"
    write_tsv(tmp_path / "DigitsMME.tsv", rows)
    benchmark = BENCHMARKS["DigitsMME"]
    found = tables.look_at(benchmark, tables.read(benchmark, tmp_path), tmp_path)
    assert {(item.index, item.column, item.weight) for item in found.findings} >= {
        ("index 0", "question", Weight.FAULT),
        ("index 3", "answer", Weight.NEVER_RIGHT),
        ("index 4", "image", Weight.FAULT),
        ("index 7", "category", Weight.FAULT),
    }


def test_what_is_scored_together_is_left_out_together(tmp_path: Path) -> None:
    rows = circular_rows()
    rows[3]["question"] = ""  # a rotation of question 2, of three options
    rows[0]["image"] = "x" * 100  # the picture of question 1 and of its rotation
    write_tsv(tmp_path / "DigitsMMBench_EN.tsv", rows)
    benchmark = BENCHMARKS["DigitsMMBench_EN"]
    found = tables.look_at(benchmark, tables.read(benchmark, tmp_path), tmp_path)
    assert found.bad_rows() == {0, 1, 3}
    with pytest.raises(DataError, match="--skip-bad 3"):
        part(found, 2)
    rest = part(found, 3)
    assert rest.left_out == ("1", "1000001", "2", "1000002", "2000002")
    dataset = tables.build_dataset(benchmark, tmp_path, tmp_path / "log", rest.table)
    assert [int(index) % 1_000_000 for index in dataset.data["index"]] == [3] * 3 + [4] * 4 + [5] * 4 + [6] * 2


def test_a_row_that_holds_anothers_picture_may_be_left_out(tmp_path: Path) -> None:
    rows = mme_rows()
    for row in rows[1:]:
        row["image"] = 0
    rows[0]["question"] = ""
    write_tsv(tmp_path / "DigitsMME.tsv", rows)
    benchmark = BENCHMARKS["DigitsMME"]
    found = tables.look_at(benchmark, tables.read(benchmark, tmp_path), tmp_path)
    dataset = tables.build_dataset(benchmark, tmp_path, tmp_path / "log", part(found, 1).table)
    assert set(dataset.data["image"]) == {png64(100)}
    assert len(dataset.data) == len(rows) - 2


def test_a_registered_release_is_asked_as_it_is_and_its_faults_are_said(tmp_path: Path) -> None:
    rows = mme_rows()
    rows[0]["question"] = ""
    write_tsv(tmp_path / "DigitsMME.tsv", rows)
    benchmark = BENCHMARKS["DigitsMME"]
    found = tables.look_at(benchmark, tables.read(benchmark, tmp_path), tmp_path, registered=True)
    assert not found.faults
    assert [str(item) for item in found.findings] == ["index 0, question: no question"]


def test_a_large_picture_is_refused_without_being_made(tmp_path: Path) -> None:
    """VLMEvalKit's import raises Pillow's own limit to 1e9 pixels, of which one picture takes 6 GB on its way."""
    from PIL import Image
    from vlmeval.dataset import ImageBaseDataset  # noqa: F401

    assert Image.MAX_IMAGE_PIXELS == 1e9
    case = next(item for item in CASES if item.name == "picture_bomb")
    assert [item.index for item in look_of(case, tmp_path).faults] == ["index 2"]
