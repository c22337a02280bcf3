"""No text in a table of ours is a formula, and each can be read back."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import openpyxl
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.eval.report.formats import Grid, as_csv
from moslora_xtuner.eval.results.sheets import as_text, original, read_csv, write_csv
from moslora_xtuner.eval.scoring.patches import plain_tables
from moslora_xtuner.eval.scoring.patches import read_csv as read_frame
from moslora_xtuner.eval.scoring.score import write_table

FORMULAS = [
    "=1+1", "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\n=1", " =1", "'=1", "''=1", "-A",
    "\uff1d1+1", "+", "=", "-5 apples", "-1,5",
]  # fmt: skip
PLAIN = [
    "A",
    "",
    "-",
    "7",
    "-5",
    "+0.5",
    "-1e-3",
    "-3%",
    "1+1",
    "a=b",
    "'quoted'",
    "it's",
    "x@y.org",
    "2 - 1",
    "\u20135",
]
signs = st.text(st.sampled_from("=+-@'\t\r\n ,;\"A1.e%\uff0b"), max_size=6) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_take_for_a_formula_is_a_text(text: str) -> None:
    assert as_text(text) == "'" + text
    assert original(as_text(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_and_numbers_stay(text: str) -> None:
    assert as_text(text) == text == original(text)


@given(st.lists(st.lists(signs, min_size=1, max_size=4), max_size=4))
def test_a_table_read_back_is_the_table(rows: list[list[str]]) -> None:
    text = write_csv(rows)
    assert read_csv(text) == rows
    for cell in (cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row):
        assert not cell.startswith(("=", "@", "\t", "\r", "\n", "\uff0b"))
        if cell.startswith(("+", "-")) and cell != "-":
            float(cell.removesuffix("%"))


def test_half_of_a_character_does_not_stop_the_writing() -> None:
    assert read_csv(write_csv([["half \ud83d", "\U0001f600"]])) == [["half \ufffd", "\U0001f600"]]


def test_the_tables_of_a_report(tmp_path: Path) -> None:
    assert as_csv(Grid(["model", "=a"], [["=1+1", "-1.25"]])) == "model,'=a\n'=1+1,-1.25\n"


def _cells(path: Path) -> list[Any]:
    return [cell for row in openpyxl.load_workbook(path).active.iter_rows() for cell in row]


def test_workbooks_hold_texts(tmp_path: Path) -> None:
    write_table(pandas.DataFrame({"=a": FORMULAS[:5], "n": range(5)}), tmp_path / "a.xlsx")
    found = _cells(tmp_path / "a.xlsx")
    assert {cell.data_type for cell in found} == {"s", "n"}
    assert [cell.value for cell in found if cell.data_type == "s"][2:] == FORMULAS[:5]


def test_what_vlmevalkit_writes_while_it_scores(tmp_path: Path) -> None:
    from vlmeval.smp import dump, load

    frame = pandas.DataFrame({"split": FORMULAS[:5], "=category": [0.5] * 5, "-5": ["-5"] * 5})
    with plain_tables():
        dump(frame, str(tmp_path / "a.xlsx"))
        dump(frame, str(tmp_path / "a.csv"))
    assert "f" not in {cell.data_type for cell in _cells(tmp_path / "a.xlsx")}
    assert list(load(str(tmp_path / "a.xlsx"))["split"]) == FORMULAS[:5]
    lines = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8"))))
    assert lines[:2] == [["split", "'=category", "-5"], ["'=1+1", "0.5", "-5"]]
    back = read_frame(tmp_path / "a.csv")
    assert list(back.columns) == ["split", "=category", "-5"]
    assert list(back["split"]) == FORMULAS[:5]
    dump(frame, str(tmp_path / "stock.xlsx"))
    assert "f" in {cell.data_type for cell in _cells(tmp_path / "stock.xlsx")}, "the work-around can go"
