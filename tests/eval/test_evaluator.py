"""From exports to run folders: what is written, continued, and never mixed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from typer.testing import CliRunner

from moslora_xtuner.cli import app
from moslora_xtuner.errors import DataError, EvaluationError, OutputError, UsageError
from moslora_xtuner.eval import evaluator
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.models.llava import LlavaAnswerer
from moslora_xtuner.eval.report import score_table
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.results.manifest import Manifest
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.output import MARKER

NAMES = ["DigitsMME", "DigitsTextVQA"]


@pytest.fixture(scope="module")
def first(export: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all four benchmarks."""
    return evaluate([export], ["digits"], data_root, tmp_path_factory.mktemp("runs"), Settings(quiet=True))[0]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions the model was asked, batch by batch."""
    counts: list[int] = []
    answer = LlavaAnswerer.answer_batch

    def counting(self: LlavaAnswerer, questions: Any) -> list[str]:
        counts.append(len(questions))
        return answer(self, questions)

    monkeypatch.setattr(LlavaAnswerer, "answer_batch", counting)
    return counts


def outcome(folder: Path) -> dict[str, Any]:
    """The scores without what differs from run to run."""
    return scores.read(folder).benchmarks


def copy(first: Path, out: Path) -> Path:
    """A copy of a finished run, in a new output folder."""
    shutil.copytree(first, out / first.name)
    return out / first.name


def test_a_run_folder_holds_all_that_a_report_needs(first: Path) -> None:
    assert first.name == "tiny"
    run = scores.read(first)
    sizes = {name: (entry["questions"], entry["units"]) for name, entry in run.benchmarks.items()}
    assert sizes == {
        "DigitsMMBench_EN": (18, 6),
        "DigitsMMBench_CN": (18, 6),
        "DigitsMME": (12, 6),
        "DigitsTextVQA": (4, 4),
    }
    for name, (questions, units) in sizes.items():
        lines = (first / "predictions" / f"{name}.jsonl").read_text().splitlines()
        assert len({json.loads(line)["index"] for line in lines}) == questions
        assert len((first / "outcomes" / f"{name}.jsonl").read_text().splitlines()) == units
        assert (first / "vlmeval" / name / f"tiny_{name}.xlsx").is_file()
        assert len(str(run.manifest.datasets[name].sha256)) == 64
    manifest = json.loads((first / "manifest.json").read_text())
    assert Manifest.read(manifest) == run.manifest
    assert manifest["versions"]["transformers"] == "4.48.0"
    assert manifest["judge"] == "exact_matching"
    sample = json.loads((first / "samples" / "DigitsMMBench_EN.jsonl").read_text().splitlines()[0])
    assert sample["image"].startswith("data:image/png;base64,")


def test_the_same_again_elsewhere(first: Path, export: Path, data_root: Path, tmp_path: Path) -> None:
    again = evaluate([export], ["digits"], data_root, tmp_path, Settings(batch_size=5, quiet=True))[0]
    assert outcome(again) == outcome(first)


def test_a_killed_run_goes_on_where_it_was(
    first: Path, export: Path, data_root: Path, tmp_path: Path, asked: list[int]
) -> None:
    folder = copy(first, tmp_path)
    (folder / "scores.json").unlink()
    path = folder / "predictions" / "DigitsMME.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]) + lines[7][:20])
    evaluate([export], NAMES, data_root, tmp_path, Settings(quiet=True))
    assert asked == [12]  # the batch that was torn, as a whole; the other benchmark's answers are all there
    assert outcome(folder) == {name: outcome(first)[name] for name in NAMES}


def test_more_benchmarks_join_and_another_model_does_not(
    export: Path, data_root: Path, tmp_path: Path, new_export: Callable[..., Path], asked: list[int]
) -> None:
    folder = evaluate([export], NAMES[:1], data_root, tmp_path, Settings(quiet=True))[0]
    evaluate([export], NAMES[1:], data_root, tmp_path, Settings(quiet=True))
    assert set(outcome(folder)) == set(NAMES)
    assert asked == [12, 4]
    other = new_export(tmp_path / "other", name="tiny", seed=5)
    evaluate([other], NAMES[1:], data_root, tmp_path, Settings(quiet=True))
    assert asked == [12, 4, 4]
    assert set(outcome(folder)) == {"DigitsTextVQA"}


def test_a_changed_question_is_asked_again(export: Path, data_root: Path, tmp_path: Path, asked: list[int]) -> None:
    root = tmp_path / "lmu"
    root.mkdir()
    text = (data_root / "DigitsTextVQA.tsv").read_text().replace("Question 2?", "Which number?")
    (root / "DigitsTextVQA.tsv").write_text(text)
    one = Settings(quiet=True, batch_size=1)
    evaluate([export], ["DigitsTextVQA"], data_root, tmp_path / "runs", one)
    asked.clear()
    evaluate([export], ["DigitsTextVQA"], root, tmp_path / "runs", one)
    assert asked == [1]


def test_two_models_are_told_apart(
    export: Path, data_root: Path, tmp_path: Path, new_export: Callable[..., Path]
) -> None:
    other = new_export(tmp_path / "other", name="tiny", seed=5)
    with pytest.raises(UsageError, match="named 'tiny'"):
        evaluate([export, other], NAMES, data_root, tmp_path / "runs", Settings(quiet=True))
    folders = evaluate(
        [export, other], NAMES[1:], data_root, tmp_path / "runs", Settings(limit=2, quiet=True), names=["a", "b (x)"]
    )
    assert [folder.name for folder in folders] == ["a", "b-x"]
    assert [scores.read(folder).model for folder in folders] == ["a", "b (x)"]
    assert outcome(folders[0])["DigitsTextVQA"]["limit"] == 2


def test_bad_requests_stop_before_any_work(export: Path, data_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    with pytest.raises(UsageError, match="DigitsMME"):
        evaluate([export], ["NoSuch"], data_root, out)
    with pytest.raises(UsageError, match="No model"):
        evaluate([], NAMES, data_root, out)
    with pytest.raises(UsageError, match="cannot name"):
        evaluate([export], NAMES, data_root, out, names=["../x"])
    with pytest.raises(UsageError, match="at least 1"):
        evaluate([export], NAMES, data_root, out, Settings(limit=0))
    with pytest.raises(DataError, match="no folder"):
        evaluate([export], NAMES, tmp_path / "none", out)
    with pytest.raises(DataError, match=r"MMBench_TEST_EN\.tsv"):
        evaluate([export], ["MMBench_TEST_EN"], data_root, out)
    with pytest.raises(EvaluationError, match="MMVet"):
        evaluate([export], ["MMVet"], data_root, out)
    assert not out.exists()


def spoilt(data_root: Path, folder: Path) -> Path:
    """The digits' MME and TextVQA with faults: three rows of one, a note of the other."""
    folder.mkdir()
    table = pandas.read_csv(data_root / "DigitsMME.tsv", sep="\t", dtype=str)
    table.loc[1, "question"] = " "
    table.loc[4, "image"] = "no picture"
    table.loc[9, "answer"] = "no"
    table.to_csv(folder / "DigitsMME.tsv", sep="\t", index=False)
    table = pandas.read_csv(data_root / "DigitsTextVQA.tsv", sep="\t", dtype=str)
    table.loc[0, "answer"] = "7"
    table.to_csv(folder / "DigitsTextVQA.tsv", sep="\t", index=False)
    return folder


def test_faults_stop_before_a_question_is_asked_and_may_be_left_out(
    export: Path, data_root: Path, tmp_path: Path, asked: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    root, out = spoilt(data_root, tmp_path / "lmu"), tmp_path / "runs"
    with pytest.raises(DataError) as fault:
        evaluate([export], NAMES, root, out, Settings(skip_bad=1, quiet=True))
    said = str(fault.value)
    for words in ("DigitsMME.tsv: 2 faults", "index 1, question: no question", "index 4, image: 'no picture'"):
        assert words in said
    assert "--skip-bad 2" in said
    assert asked == []
    assert not (out / "tiny" / "predictions").exists()
    evaluate([export], NAMES, root, out, Settings(skip_bad=2))
    entry = outcome(out / "tiny")["DigitsMME"]
    assert entry["left_out"]["indices"] == ["0", "1", "4", "5"]  # the other question on each picture goes with it
    assert entry["left_out"]["because"][0] == "index 1, question: no question"
    assert (entry["questions"], entry["units"], entry["unanswerable"]) == (8, 4, 1)
    assert outcome(out / "tiny")["DigitsTextVQA"]["unanswerable"] == 1
    assert "DigitsMME: 4 rows are not asked: index 1, question: no question;" in capfd.readouterr().err
    notes = score_table.build([scores.read(out / "tiny")], "digits").notes
    assert any(line.startswith("Digits-MME: 4 rows of the table were not asked (index 1, ") for line in notes)


def test_looking_asks_nothing_and_names_each_row(data_root: Path, tmp_path: Path) -> None:
    root = spoilt(data_root, tmp_path / "lmu")
    words = ["eval", "--check", "--benchmarks", ",".join(NAMES), "--data-root", str(root)]
    found = CliRunner().invoke(app, words)
    assert isinstance(found.exception, DataError)
    assert "eval would not ask DigitsMME" in str(found.exception)
    lines = found.stdout.splitlines()
    assert "DigitsMME: fault: index 1, question: no question" in lines
    assert any(line.startswith("DigitsMME: never right: index 9, answer: 'no' is neither Yes nor No") for line in lines)
    assert any(line.startswith("DigitsTextVQA: never right: index 0, answer: '7' is no list") for line in lines)
    assert "DigitsMME: 12 rows, 2 faults, 1 notes" in lines
    again = CliRunner().invoke(app, [*words, "--skip-bad", "2"])
    assert again.exit_code == 0


def test_tables_that_are_missing_are_all_named(export: Path, data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 tables are not there: MME\.tsv, AI2D_TEST\.tsv"):
        evaluate([export], ["MME", "AI2D_TEST", "DigitsMME"], data_root, tmp_path / "runs")


def test_a_folder_that_is_not_ours_is_left_alone(export: Path, data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not made by moslora"):
        evaluate([export], NAMES, data_root, tmp_path)
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["thesis.txt"]
    for name in ("scores.json", "manifest.json", "predictions", "vlmevalkit.log"):  # of ours by their names alone
        (tmp_path / name / "tiny").mkdir(parents=True)
        (tmp_path / name / "tiny" / name).write_text('{"model": "theirs"}')
        with pytest.raises(OutputError, match="not made by moslora"):
            evaluate([export], NAMES, data_root, tmp_path / name)
        assert [path.name for path in (tmp_path / name / "tiny").iterdir()] == [name]


def test_a_run_that_was_made_before_folders_had_marks_goes_on(
    first: Path, export: Path, data_root: Path, tmp_path: Path, asked: list[int]
) -> None:
    folder = copy(first, tmp_path)
    (folder / MARKER).unlink()
    evaluate([export], NAMES, data_root, tmp_path, Settings(quiet=True))
    (folder / MARKER).unlink()
    for name in ("manifest.json", "scores.json"):  # as if it had been killed before its first manifest
        (folder / name).unlink()
    evaluate([export], NAMES, data_root, tmp_path, Settings(quiet=True))
    assert asked == []
    assert (folder / MARKER).is_file()


def test_the_terminal_shows_progress_and_not_vlmevalkit(
    first: Path, export: Path, data_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate([export], ["DigitsMMBench_EN"], data_root, tmp_path)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "tiny: DigitsMMBench_EN questions: 18/18" in shown.err
    assert "vanilla" not in shown.err
    assert (tmp_path / "tiny" / evaluator.LOG).is_file()


def test_vlmevalkit_leaves_gradients_on(first: Path) -> None:
    # vlmeval.vlm turns them off for the whole process on import.
    import torch

    assert torch.is_grad_enabled()
