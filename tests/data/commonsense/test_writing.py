"""LLM-Adapters' files: what is missing, broken or another one is named; what is written is what was read."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from places import ROOT

from moslora_xtuner.data.commonsense.reading import git_blob
from moslora_xtuner.data.commonsense.sets import SETS, TRAINING
from moslora_xtuner.data.commonsense.writing import split, write_commonsense
from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.digits_base import language_model
from moslora_xtuner.errors import DataError, OutputError, UsageError

Edit = Callable[[dict[str, Any]], None]


def question(label: str, text: str = "Is\tthis\n\na question?") -> dict[str, Any]:
    return {"instruction": text, "input": "", "output": f"the correct answer is {label}", "answer": label}


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    """LLM-Adapters' tree with some questions in each file."""
    folder = tmp_path / "LLM-Adapters"
    training = []
    for which in SETS:
        rows = [question(label, f'{which.name} "{label}"\n\nAnswer format: <image>') for label in which.labels]
        training += rows
        write(folder / which.path, rows)
    write(folder / TRAINING, training)
    return folder


def write(path: Path, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))


def edit(path: Path, change: Edit) -> None:
    rows = json.loads(path.read_text())
    change(rows[1])
    path.write_text(json.dumps(rows))


def test_training_and_tables_hold_what_was_read(adapters: Path, tmp_path: Path) -> None:
    made = write_commonsense(adapters, tmp_path / "out", validation=3, changed=True)
    wanted = json.loads((adapters / TRAINING).read_text())
    found = {}
    for part, count in (("train", len(wanted) - 3), ("validation", 3)):
        records = json.loads((tmp_path / "out" / f"{part}.json").read_text())
        assert (len(records), made["records"][part]) == (count, count)
        found |= {int(record["id"].removeprefix("commonsense-")): record["conversations"] for record in records}
    assert sorted(found) == list(range(len(wanted)))
    for place, row in enumerate(wanted):
        # The mark of a picture would make a text a record that lacks one.
        human = row["instruction"].replace("<image>", "\\<image>")
        assert found[place] == [{"from": "human", "value": human}, {"from": "gpt", "value": row["output"]}]
    for which in SETS:
        with (tmp_path / "out" / "LMUData" / f"{which.name}.tsv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        test = json.loads((adapters / which.path).read_text())
        wanted_rows = [(str(place), row["instruction"], row["answer"]) for place, row in enumerate(test)]
        assert [(row["index"], row["question"], row["answer"]) for row in rows] == wanted_rows


def test_the_records_can_be_prepared(adapters: Path, tmp_path: Path) -> None:
    write_commonsense(adapters, tmp_path / "out", validation=3, changed=True)
    model = language_model("digits")
    made = prepare(tmp_path / "out" / "train.json", Path(), model, tmp_path / "store", template="alpaca")
    assert (made["records"], made["text_only"], made["left_out"]) == (27, 27, 0)


def test_the_split_is_that_of_datasets() -> None:
    """finetune.py: train_test_split(test_size=120, shuffle=True, seed=42)."""
    whole = datasets.Dataset.from_dict({"place": list(range(1000))})
    parts = whole.train_test_split(test_size=120, shuffle=True, seed=42)
    assert split(1000, 120, 42) == (parts["train"]["place"], parts["test"]["place"])
    with pytest.raises(UsageError, match="120 records for validation of 120"):
        split(120, 120, 42)


def test_every_missing_file_is_named_with_where_it_is_got(adapters: Path, tmp_path: Path) -> None:
    (adapters / TRAINING).unlink()
    (adapters / "dataset/piqa/test.json").unlink()
    message = r"lacks dataset/piqa/test.json, ft-training_set/commonsense_170k.json: .*github.com/AGI-Edgerunners"
    with pytest.raises(DataError, match=message):
        write_commonsense(adapters, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write(adapters / "dataset/piqa/test.json", [question("solution1")])
    made = write_commonsense(adapters, tmp_path / "out", tests_only=True, changed=True)
    assert made["records"] == {}
    assert not (tmp_path / "out" / "train.json").exists()


def test_other_files_than_the_published_ones_are_refused(adapters: Path, tmp_path: Path) -> None:
    """By git's own hash of each, with how much they hold and should hold."""
    with pytest.raises(DataError, match=r"not as published: .*boolq/test.json \(2 records, published 3270, git blob"):
        write_commonsense(adapters, tmp_path / "out", validation=3)
    for path in (adapters / TRAINING, adapters / "dataset/boolq/test.json"):
        said = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout
        assert git_blob(path.read_bytes()) == said.strip()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dataset/boolq/test.json", lambda row: row.update(answer="yes"), "record 1: the answer 'yes' is none of"),
        ("dataset/winogrande/test.json", lambda row: row.update(answer="answer1"), "record 1: the answer 'answer1'"),
        ("dataset/piqa/test.json", lambda row: row.pop("instruction"), "record 1: no text under instruction"),
        ("dataset/piqa/test.json", lambda row: row.update(answer=None), "record 1: no text under answer"),
        ("dataset/piqa/test.json", lambda row: row.update(instruction=" "), "record 1: no instruction"),
        (TRAINING, lambda row: row.update(output="the correct answer is 2"), "record 1: the output"),
        (TRAINING, lambda row: row.update(input="a passage"), "1 records have an `input`"),
    ],
)
def test_what_cannot_be_learnt_or_scored_is_named(
    adapters: Path, tmp_path: Path, name: str, change: Edit, message: str
) -> None:
    edit(adapters / name, change)
    with pytest.raises(DataError, match=message):
        write_commonsense(adapters, tmp_path / "out", changed=True)


@pytest.mark.parametrize("content", ["", "[", "{}", "[]", "[1]"])
def test_no_list_of_records(adapters: Path, tmp_path: Path, content: str) -> None:
    (adapters / "dataset/boolq/test.json").write_text(content)
    with pytest.raises(DataError, match=r"boolq/test\.json"):
        write_commonsense(adapters, tmp_path / "out", changed=True)


def test_made_once_and_only_from_the_same(adapters: Path, tmp_path: Path) -> None:
    first = write_commonsense(adapters, tmp_path / "out", validation=3, changed=True)
    stamp = (tmp_path / "out" / "train.json").stat().st_mtime_ns
    assert write_commonsense(adapters, tmp_path / "out", validation=3, changed=True) == first
    assert (tmp_path / "out" / "train.json").stat().st_mtime_ns == stamp
    with pytest.raises(OutputError, match="validation was 3, is 4"):
        write_commonsense(adapters, tmp_path / "out", validation=4, changed=True)


def test_the_counts_are_those_of_the_published_sets() -> None:
    """As the paper's section 4.1 has them, but for PIQA (1830 there), with the ARC sets the right way round."""
    counts = {which.label: which.count for which in SETS}
    assert counts == {
        "ARC-e": 2376, "OBQA": 500, "SIQA": 1954, "ARC-c": 1172, "WinoG": 1267, "PIQA": 1838, "BoolQ": 3270,
        "HellaS": 10042,
    }  # fmt: skip


def test_the_docs_table_is_that_of_the_sets() -> None:
    text = (ROOT / "docs" / "commonsense.md").read_text(encoding="utf-8")
    lines = text.split("<!-- table: sets -->")[1].split("<!-- end -->")[0].strip().splitlines()[2:]
    for line, which in zip(lines, SETS, strict=True):
        joint = " ... " if len(which.labels) > 2 else ", "
        assert line == (
            f"| `{which.name}` | {which.label} | {which.count} | {joint.join((which.labels[0], which.labels[-1]))} |"
        )
