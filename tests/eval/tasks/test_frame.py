"""The frame that VLMEvalKit gets: texts as texts, other columns as pandas types them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas
from small_tables import png64

from moslora_xtuner.eval.tasks import tsv
from moslora_xtuner.eval.tasks.frame import frame_of


def frame(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    path = folder / "t.tsv"
    pandas.DataFrame(rows).to_csv(path, sep="\t", index=False)
    return frame_of(tsv.read(path), lambda name: folder / name, **options)


def test_texts_and_types(tmp_path: Path) -> None:
    rows = [
        {
            "index": 1,
            "question": "None",
            "A": "3",
            "B": "None",
            "answer": "NA",
            "hint": "null",
            "precision": 1.0,
            "grade": "x",
        },
        {
            "index": 2,
            "question": "b",
            "A": None,
            "B": "7",
            "answer": "A",
            "hint": "h",
            "precision": None,
            "grade": "NA",
        },
    ]
    found = frame(tmp_path, rows)
    first, second = found.to_dict("records")
    assert (first["index"], first["question"], first["A"], first["answer"]) == ("1", "None", "3", "NA")
    assert all(isinstance(value, float) and math.isnan(value) for value in (first["B"], second["A"], first["hint"]))
    stock = pandas.read_csv(tmp_path / "t.tsv", sep="\t")
    for name in ("precision", "grade"):
        pandas.testing.assert_series_equal(found[name], stock[name])
    assert frame(tmp_path, rows, words=True)["B"].to_list() == ["None", "7"]


def test_a_column_of_numbers_that_pandas_shall_type(tmp_path: Path) -> None:
    rows = [{"index": 1, "question": "a", "answer": "14.0"}, {"index": 2, "question": "b", "answer": "3"}]
    assert frame(tmp_path, rows)["answer"].to_list() == ["14.0", "3"]
    assert frame(tmp_path, rows, typed=("answer",))["answer"].to_list() == [14.0, 3.0]


def test_a_picture_in_every_row(tmp_path: Path) -> None:
    import base64

    picture = png64(1)
    (tmp_path / "1.png").write_bytes(base64.b64decode(picture))
    rows = [
        {"index": 1, "image": picture, "image_path": None},
        {"index": 2, "image": "1", "image_path": None},
        {"index": 3, "image": f"data:image/png;base64,{picture}", "image_path": None},
        {"index": 4, "image": None, "image_path": "1.png"},
    ]
    assert frame(tmp_path, [{**row, "question": "?"} for row in rows])["image"].to_list() == [picture] * 4
