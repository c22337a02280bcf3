"""A table of one's own: what is asked, and what is refused before anything is."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from small_tables import png, png64, write_tsv

from moslora_xtuner.errors import DataError, UsageError
from moslora_xtuner.eval.tasks import own_table, tables
from moslora_xtuner.eval.tasks.questions import ask_all

CHOICE = {"question": "Which?", "A": "red", "B": "blue", "answer": "A", "image_path": "cups/1.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cups").mkdir()
    (tmp_path / "cups" / "1.png").write_bytes(png(1))
    return tmp_path


def asked(file: Path, kind: str, *, instruct: bool = False) -> tuple[list[str], Any]:
    benchmark = own_table.read(f"{file}:{kind}", instruct)
    assert benchmark is not None
    dataset = tables.build_dataset(benchmark, None, file.with_suffix(".log"))
    return [item.question.text for item in ask_all(benchmark, dataset, None, None)], dataset


def test_nothing_is_added_to_a_question_unless_asked_for(folder: Path) -> None:
    file = folder / "cups.tsv"
    write_tsv(file, [CHOICE])
    assert asked(file, "choice")[0] == ["Which?\nA. red\nB. blue"]
    told = asked(file, "choice", instruct=True)[0]
    assert told == ["Which?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."]
    for kind, answer in (("yes-no", "yes"), ("short-answer", "red"), ("open", "a red cup")):
        write_tsv(file, [{**CHOICE, "answer": answer}])
        assert asked(file, kind)[0] == ["Which?"]
    assert asked(file, "short-answer", instruct=True)[0] == [
        "Which?\nAnswer the question using a single word or phrase."
    ]


def test_pictures_are_files_beside_the_table_or_base64_in_it(folder: Path) -> None:
    rows = [CHOICE, {**CHOICE, "image_path": None, "image": png64(2)}]
    write_tsv(folder / "cups.tsv", rows)
    benchmark = own_table.read(f"{folder / 'cups.tsv'}:choice")
    assert benchmark is not None
    dataset = tables.build_dataset(benchmark, None, folder / "log")
    assert [item.question.image for item in ask_all(benchmark, dataset, None, None)] == [png(1), png(2)]
    assert list(dataset.data["index"]) == [0, 1]  # numbered where the table does not


def test_answers_are_read_as_people_write_them(folder: Path) -> None:
    file = folder / "cups.tsv"
    write_tsv(file, [{**CHOICE, "answer": " b "}])
    assert list(asked(file, "choice")[1].data["answer"]) == ["B"]
    write_tsv(file, [{**CHOICE, "answer": word} for word in ("yes", "NO", "Yes")])
    assert list(asked(file, "yes-no")[1].data["answer"]) == ["Yes", "No", "Yes"]
    write_tsv(file, [{**CHOICE, "question": "None", "answer": "NA"}])  # words, not gaps
    texts, dataset = asked(file, "short-answer")
    assert texts == ["None"]
    assert list(dataset.data["answer"]) == ["NA"]


FAULTS = [
    ("choice", {"answer": "C"}, "index 7, answer: the answer 'C' is none of A, B"),
    ("choice", {"answer": None}, "index 7, answer: no answer"),
    ("choice", {"B": None}, "options stand in columns A, B, ... without a gap, two at least; here ['A']"),
    ("choice", {"B": None, "C": "green"}, "here ['A', 'C']"),
    ("choice", {"question": " "}, "index 7, question: no question"),
    ("choice", {"index": "1"}, "index 1, index: this index stands there twice"),
    ("choice", {"index": None}, "line 3, index: no index"),
    ("choice", {"image_path": None}, "index 7, image: no picture"),
    ("choice", {"image_path": "cups/2.png"}, "there is no picture"),
    ("choice", {"image_path": "../secret.png"}, "../secret.png is not inside"),
    ("choice", {"image_path": "/etc/hostname"}, "/etc/hostname is not inside"),
    ("choice", {"image_path": "text.png"}, "not a picture that can be read"),
    (
        "choice",
        {"image": "no, base64!"},
        "image: 'no, base64!' is neither a picture nor the index of a row that holds one",
    ),
    ("choice", {"image": base64.b64encode(png(1)[:200]).decode()}, "not a picture that can be read"),
    ("yes-no", {"answer": "maybe"}, "the answer 'maybe' is neither Yes nor No"),
    ("short-answer", {"answer": "['red']"}, "the answer \"['red']\" is no JSON list of texts"),
    ("short-answer", {"answer": "[]"}, "is no JSON list of texts"),
    ("short-answer", {"answer": "[1]"}, "is no JSON list of texts"),
]


@pytest.mark.parametrize(("kind", "change", "said"), FAULTS, ids=[str(item[1]) for item in FAULTS])
def test_what_cannot_be_asked_or_answered_is_named_before_anything_is(
    folder: Path, kind: str, change: dict[str, Any], said: str
) -> None:
    (folder / "text.png").write_text("no picture")
    (folder.parent / "secret.png").write_bytes(png(3))
    good = {"index": "1", **CHOICE, "answer": {"yes-no": "no"}.get(kind, "A"), "image": None, "C": None}
    write_tsv(folder / "cups.tsv", [good, {**good, "index": "7"} | change])
    with pytest.raises(DataError) as fault:
        asked(folder / "cups.tsv", kind)
    assert said in str(fault.value)


def test_all_faults_are_counted_and_the_first_ones_told(folder: Path) -> None:
    write_tsv(folder / "cups.tsv", [{**CHOICE, "index": number, "answer": "X"} for number in range(20)])
    named = "20 faults: index 0, 1, 2, 3, 4, 5, 6, 7 and 12 more, answer: the answer 'X' is none of A, B"
    with pytest.raises(DataError, match=named):
        asked(folder / "cups.tsv", "choice")


@pytest.mark.parametrize("column", ["question", "image_path"])
def test_a_column_that_is_missing_is_named_beside_those_there(folder: Path, column: str) -> None:
    write_tsv(folder / "cups.tsv", [{name: value for name, value in CHOICE.items() if name != column}])
    with pytest.raises(DataError, match=f"has no column {column}.*It has: "):
        asked(folder / "cups.tsv", "choice")


def test_the_word_of_the_command_line() -> None:
    assert own_table.read("MME") is None
    assert own_table.read("a:choice") is None
    for word, said in (
        ("a.tsv", "say what kind of questions it holds: a.tsv:choice, a.tsv:yes-no, a.tsv:short-answer, a.tsv:open"),
        ("a.tsv:mcq", "'mcq' is no kind"),
        ("x/MME.tsv:yes-no", "has the name of VLMEvalKit's MME"),
    ):
        with pytest.raises(UsageError, match=said):
            own_table.read(word)
