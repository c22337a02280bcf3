"""The score table: Table 5 from nothing but scores.json, in every format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from moslora_xtuner import cli
from moslora_xtuner.errors import UsageError
from moslora_xtuner.eval.report.paper_table5 import TABLE5
from moslora_xtuner.eval.report.score_table import FORMATS, table
from moslora_xtuner.eval.tasks.registry import GROUPS

# As printed in the paper, typed in here once more and not taken from eval/paper.py.
PRINTED_MEANS = [56.8, 57.3, 57.1, 57.8, 58.8, 59.5]


@pytest.fixture
def table5(tmp_path: Path) -> list[Path]:
    """The rows of Table 5 as folders that hold a scores.json each; MME in points."""
    folders = []
    for number, row in enumerate(TABLE5):
        entries = {}
        for dataset, value in row.scores.items():
            scale = 2800 if dataset == "MME" else 100
            entries[dataset] = {"overall": value * scale / 100, "scale": scale, "judge": None}
        folder = tmp_path / f"row{number}"
        folder.mkdir()
        (folder / "scores.json").write_text(json.dumps({"model": row.name, "benchmarks": entries}))
        folders.append(folder)
    return folders


def test_the_command_prints_table_5(table5: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_app(["report", *map(str, table5), "--format", "csv"]) == 0
    header, *rows = rows_of(capsys.readouterr().out)
    assert ",".join(header) == "model,MMB-EN,MMB-CN,SEED-img,AI2D,SciQA,TextVQA,MathVista,MM-Vet,MME,mean"
    assert [row[0] for row in rows] == [row.name for row in TABLE5]
    assert [row[-2] for row in rows] == ["58.40", "60.60", "60.50", "61.60", "62.00", "64.10"]  # MME's points / 28
    # By hand: the sums of the nine printed cells, 511.1, 515.9, 514.4, 520.3, 529.4 and 535.1, each / 9.
    assert [row[-1] for row in rows] == ["56.79", "57.32", "57.16", "57.81", "58.82", "59.46"]
    for row, printed in zip(rows, PRINTED_MEANS, strict=True):
        assert float(row[-1]) == pytest.approx(printed, abs=0.1)


def test_the_command_names_the_gap(table5: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = table5[0] / "scores.json"
    content = json.loads(path.read_text())
    del content["benchmarks"]["AI2D_TEST"]
    content["manifest"] = {"unscored": {"MMVet": "judge unavailable: refused"}}
    del content["benchmarks"]["MMVet"]
    path.write_text(json.dumps(content))
    assert cli.run_app(["report", str(table5[0]), "--format", "csv"]) == 0
    assert rows_of(capsys.readouterr().out)[1][-1] == "withheld: missing AI2D; MM-Vet: judge unavailable"
    assert cli.run_app(["report", str(table5[0])]) == 0
    assert "MM-Vet: not scored: judge unavailable: refused." in capsys.readouterr().out


def with_dev(folder: Path) -> None:
    """Give a run a score of MMBench's dev set, which is none of the nine."""
    path = folder / "scores.json"
    content = json.loads(path.read_text())
    content["benchmarks"]["MMBench_DEV_EN"] = {"overall": 12.5, "scale": 100, "judge": None}
    path.write_text(json.dumps(content))


def test_what_is_scored_beside_the_nine_is_printed_too(table5: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with_dev(table5[0])
    words = [str(folder) for folder in table5[:2]]
    for format in ("terminal", "markdown", "latex", "html"):
        assert cli.run_app(["report", *words, "--format", format]) == 0
        nine, other = capsys.readouterr().out.split("Other benchmarks")
        assert "The nine benchmarks of the paper" in nine
        assert ("56.8" in nine, "12.5" in nine) == (True, False)
        assert ("MMB-EN-dev" in other, "12.5" in other, "56.8" in other) == (True, True, False)
    assert cli.run_app(["report", *words, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["group"], [item["group"] for item in found["further"]]) == ("paper", ["other"])
    assert [row["mean"] for row in found["further"][0]["rows"]] == [12.5, None]


def test_csv_is_one_table_and_says_what_else_there_is(table5: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with_dev(table5[0])
    words = ["report", *(str(folder) for folder in table5[:2]), "--format", "csv"]
    assert cli.run_app(words) == 0
    said = capsys.readouterr()
    assert [len(row) for row in rows_of(said.out)] == [11, 11, 11]
    assert said.err == "note: csv is one table; the runs hold other benchmarks too: --group other\n"
    assert cli.run_app([*words, "--group", "other"]) == 0
    said = capsys.readouterr()
    assert rows_of(said.out)[1][1:] == ["12.50", "12.50"]
    assert rows_of(said.out)[2][1:] == ["-", "withheld: missing MMB-EN-dev"]
    assert said.err == ""


def rows_of(text: str) -> list[list[str]]:
    """The parsed CSV."""
    return list(csv.reader(io.StringIO(text)))


def test_table_5_comes_out_with_its_means(table5: list[Path]) -> None:
    header, *rows = rows_of(table(table5, "csv"))
    assert header[0] == "model"
    assert header[-1] == "mean"
    assert [row[0] for row in rows][:2] == ["LLaMA-3+ViT LoRA", "LLaMA-3+ViT MoSLoRA (orthogonal)"]
    assert [float(cell) for cell in rows[0][1:-1]] == [72.0, 67.8, 68.8, 61.4, 74.8, 47.1, 27.7, 33.1, 58.4]
    for row, printed in zip(rows, PRINTED_MEANS, strict=True):
        # 0.06, not 0.05: the nine printed cells of the third row have the mean 57.156, printed as 57.1
        assert float(row[-1]) == pytest.approx(printed, abs=0.06)


def test_one_missing_benchmark_withholds_the_mean_and_is_named(table5: list[Path]) -> None:
    path = table5[0] / "scores.json"
    content = json.loads(path.read_text())
    del content["benchmarks"]["MMVet"]
    path.write_text(json.dumps(content))
    rows = rows_of(table(table5, "csv"))
    assert rows[1][-1] == "withheld: missing MM-Vet"
    assert rows[1][1 + GROUPS["paper"].index("MMVet")] == "-"
    assert float(rows[2][-1]) == pytest.approx(57.32, abs=0.005)
    found = json.loads(table(table5, "json"))["rows"][0]
    assert found["mean"] is None
    assert found["mean_withheld"] == "missing MM-Vet"


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_format_holds_every_row(table5: list[Path], format: str) -> None:
    text = table(table5, format)
    for row in TABLE5:  # a terminal's columns fold names at their blanks
        assert all(word in text for word in (row.name.split() if format == "terminal" else [row.name]))
    assert "59.5" in text or "59.46" in text or "59.455" in text


def test_markup_in_a_name_stays_text(tmp_path: Path) -> None:
    name = "<b>a&b_|x[red]"
    entry = {"DigitsTextVQA": {"overall": 10, "scale": 100, "judge": None}}
    (tmp_path / "scores.json").write_text(json.dumps({"model": name, "benchmarks": entry}))
    assert "&lt;b&gt;a&amp;b_|x[red]" in table([tmp_path], "html")
    assert r"a\&b\_" in table([tmp_path], "latex")
    assert r"<b>a&b_\|x[red]" in table([tmp_path], "markdown")
    assert name in table([tmp_path], "terminal")


def test_unknown_format_and_no_run(table5: list[Path]) -> None:
    with pytest.raises(UsageError, match="markdown"):
        table(table5, "pdf")
    with pytest.raises(UsageError, match="No run"):
        table([], "csv")
    with pytest.raises(UsageError, match="digits"):
        table(table5, "csv", group="nine")


def test_runs_that_cannot_be_compared_are_said_to_be_so(tmp_path: Path) -> None:
    for name, digest in (("a", "1" * 64), ("b", "2" * 64)):
        (tmp_path / name).mkdir()
        content = {
            "model": name,
            "benchmarks": {"DigitsTextVQA": {"overall": 10, "scale": 100, "judge": None}},
            "manifest": {"datasets": {"DigitsTextVQA": {"sha256": digest}}},
        }
        (tmp_path / name / "scores.json").write_text(json.dumps(content))
    assert "cannot be compared" in table([tmp_path / "a", tmp_path / "b"], "terminal")
    assert "cannot be compared" not in table([tmp_path / "a"], "terminal")


def test_the_papers_rows_beneath(table5: list[Path], tmp_path: Path) -> None:
    mine = table5[0]
    assert "paper" not in table([mine], "terminal")
    assert "| paper (printed): LLaMA-3+ViT MoSLoRA (Kaiming) | 72.5 |" in table([mine], "markdown", paper=True)
    rows = rows_of(table([mine], "csv", paper=True))
    assert [row[0] for row in rows[2:]] == [f"paper (printed): {row.name}" for row in TABLE5]
    assert [float(row[-1]) for row in rows[2:]] == PRINTED_MEANS
    printed = json.loads(table([mine], "json", paper=True))["paper"]
    assert [row["mean"] for row in printed["rows"]] == PRINTED_MEANS
    entry = {"DigitsTextVQA": {"overall": 10, "scale": 100, "judge": None}}
    (tmp_path / "scores.json").write_text(json.dumps({"model": "x", "benchmarks": entry}))
    with pytest.raises(UsageError, match="nine benchmarks alone"):
        table([tmp_path], paper=True)


@pytest.fixture
def with_abilities(tmp_path: Path) -> Path:
    """A run of MMBench with its six and two fine abilities, of MME, and of SEED-Bench."""
    six = {"AR": 10.0, "CP": 20.0, "FP-C": 30.0, "FP-S": 40.0, "LR": 50.0, "RR": 60.0}
    fine = {"image_style": 12.5, "ocr": 87.5}
    subtasks = {"text_translation": 120.0, "OCR": 150.0, "count": 80.0}
    benchmarks = {
        "MMBench_TEST_EN": {"overall": 35.0, "abilities": six, "categories": fine, "vanilla": None},
        "MME": {"overall": 350.0, "scale": 2800, "abilities": subtasks, "perception": 230.0, "cognition": 120.0},
        "SEEDBench_IMG": {"overall": 70.0, "abilities": {"Scene Understanding": 71.25}},
    }
    content = {"model": "m", "benchmarks": {name: {"scale": 100, **entry} for name, entry in benchmarks.items()}}
    (tmp_path / "scores.json").write_text(json.dumps(content))
    return tmp_path


def test_abilities_on_demand(with_abilities: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "image_style" not in table([with_abilities])
    assert cli.run_app(["report", str(with_abilities), "--abilities", "--format", "markdown"]) == 0
    text = capsys.readouterr().out
    assert "| m | circular | 10.0 | 20.0 | 30.0 | 40.0 | 50.0 | 60.0 | 35.0 |" in text
    assert "**MMB-EN: fine abilities (2), per cent**" in text
    assert "| image_style | 12.5 |" in text
    # MME's own order: perception, then cognition, then the sums
    first = text.index("| OCR | 150.0 |")
    places = ["| count | 80.0 |", "| text_translation | 120.0 |", "| perception | 230.0 |", "| cognition | 120.0 |"]
    assert [first, *map(text.index, places)] == sorted([first, *map(text.index, places)])
    assert "| Scene Understanding | 71.2 |" in text
    assert cli.run_app(["report", str(with_abilities), "--abilities", "--format", "csv"]) == 0
    head, tail = capsys.readouterr().out.split("\n\n")
    assert len(rows_of(head)) == 2
    assert ["m", "MMBench_TEST_EN", "fine", "ocr", "87.50"] in rows_of(tail)
    assert ["m", "MME", "ability", "count", "80.00"] in rows_of(tail)
    found = json.loads(table([with_abilities], "json", abilities=True))["abilities"]
    assert found["MMBench_TEST_EN"]["m"]["fine"] == {"image_style": 12.5, "ocr": 87.5}
