"""A TSV as the texts that stand in it, cell by cell as pandas splits it."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as some

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.tasks import tsv

CELL = some.text(alphabet="ab \"'\t\n\\é漢=", max_size=8)


def put(folder: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path = folder / "t.tsv"
    path.write_bytes(text.encode(encoding))
    return path


@given(rows=some.lists(some.tuples(CELL, CELL), min_size=1, max_size=5))
def test_what_pandas_writes_is_read_as_it_was(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.tsv"
    frame = pandas.DataFrame(rows, columns=["index", "question"])
    frame.to_csv(path, sep="\t", index=False)
    found = tsv.read(path)
    assert not found.ragged
    assert [tuple(row.values()) for row in found.rows()] == rows
    again = pandas.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    assert found.cells == {name: again[name].to_list() for name in again}


def test_lines_and_the_number_of_cells(tmp_path: Path) -> None:
    found = tsv.read(
        put(tmp_path, '\ufeffindex\tquestion\tA\r\n1\t"two\r\nlines"\tx\r\n\r\n2\tshort\r\n3\ta\tb\tc\r\n')
    )
    assert found.columns == ("index", "question", "A")
    assert found.lines == (2, 5, 6)
    assert found.cells["question"] == ["two\r\nlines", "short", "a"]
    assert found.cells["A"] == ["x", "", "b"]
    assert found.ragged == {1: 2, 2: 4}
    assert found.only([1]).ragged == {0: 2}


HEAD = "index\tquestion\tA\tB\tanswer\n"


@pytest.mark.parametrize(
    ("lines", "swallowed"),
    [
        ('1\t"What?\ta\tb\tA\n2\t"What?\ta\tb\tA\n3\tQ\ta\tb\tA\n', {0: ("question", 1)}),
        ('1\t"What?\ta\tb\tA\n2\tQ\ta\tb\tA\n3\tQ\t"a"\tb\tA\n', {0: ("question", 2)}),
        ('1\tQ\ta\tb\tA\n2\tQ\ta\tb\t"A\n3\tQ\ta\tb\tA\n', {1: ("answer", 2)}),  # to the end of the file
        ('1\tQ\ta\tb\tA\n2\t"Q\ta\tb\tA', {1: ("question", 0)}),
        ('1\t"def f():\n\treturn 1\n\treturn 2"\ta\tb\tA\n', {}),  # code with tabs is one question
        ('1\t"two\nlines"\ta\tb\tA\n', {}),
        ('1\tthe 5" pipe\ta\tb\tA\n2\tthe "red" one\ta\tb\tA\n', {}),
    ],
)
def test_a_quote_that_is_not_closed(lines: str, swallowed: dict[int, tuple[str, int]], tmp_path: Path) -> None:
    assert tsv.read(put(tmp_path, HEAD + lines)).swallowed == swallowed


def test_what_is_no_table(tmp_path: Path) -> None:
    for text, encoding, said in (
        ("", "utf-8", "is empty"),
        (HEAD, "utf-16", "no UTF-8 text"),
        ("index\tindex\n", "utf-8", "the column 'index' twice"),
    ):
        with pytest.raises(DataError, match=said):
            tsv.read(put(tmp_path, text, encoding=encoding))
    with pytest.raises(DataError, match="cannot be read"):
        tsv.read(tmp_path)
    assert len(tsv.read(put(tmp_path, HEAD))) == 0


def test_whether_there_are_answers(tmp_path: Path) -> None:
    assert tsv.has_answers(put(tmp_path, HEAD + "1\tQ\ta\tb\t\n2\tQ\ta\tb\tA\n"))
    assert not tsv.has_answers(put(tmp_path, HEAD + "1\tQ\ta\tb\t \n2\tQ\ta\tb\n"))
    assert not tsv.has_answers(put(tmp_path, "index\tquestion\n1\tQ\n"))
