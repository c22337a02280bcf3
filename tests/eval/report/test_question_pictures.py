"""The pictures beside changed answers: from the right row of the right table, few enough, or why none."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from moslora_xtuner.eval.report import question_pictures
from moslora_xtuner.eval.results.manifest import Manifest
from moslora_xtuner.eval.results.scores import Run

NAME = "AI2D_TEST"


def png64(colour: tuple[int, int, int], size: tuple[int, int] = (40, 20)) -> str:
    target = BytesIO()
    Image.new("RGB", size, colour).save(target, "PNG")
    return base64.b64encode(target.getvalue()).decode()


def colour_of(uri: str) -> tuple[int, ...]:
    picture = Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")
    found = picture.getpixel((picture.width // 2, picture.height // 2))
    assert isinstance(found, tuple)
    return tuple(round(part / 255) * 255 for part in found)


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def table_of(path: Path, rows: Sequence[tuple[str, ...]], header: str = "index\timage\tquestion") -> Run:
    """A TSV and a run that was asked it."""
    path.write_text("".join("\t".join(row) + "\n" for row in [tuple(header.split("\t")), *rows]))
    record = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "tsv": str(path)}
    return Run("a", path.parent, {NAME: {}}, Manifest.read({"datasets": {NAME: record}}))


def test_pictures_come_from_the_row_or_the_row_it_refers_to(tmp_path: Path) -> None:
    rows = [
        ("1", png64(RED), "q"),
        ("2", "1", "q"),
        ("3", "2", "q"),
        ("4", png64(GREEN, (900, 300)), "q"),
        ("5", "", ""),
    ]
    run = table_of(tmp_path / f"{NAME}.tsv", rows)
    found = question_pictures.load([run], NAME, ["3", "4", "5"], 10**6)
    assert found.reason == ""
    assert {index: colour_of(uri) for index, uri in found.by_index.items()} == {"3": RED, "4": GREEN}
    large = Image.open(BytesIO(base64.b64decode(found.by_index["4"].partition(",")[2])))
    assert large.size == (256, 85)


def test_pictures_by_path(tmp_path: Path) -> None:
    (tmp_path / "images" / NAME).mkdir(parents=True)
    Image.new("RGB", (9, 9), BLUE).save(tmp_path / "images" / NAME / "x.png")
    run = table_of(tmp_path / f"{NAME}.tsv", [("1", "x.png"), ("2", "none.png")], "index\timage_path")
    found = question_pictures.load([run], NAME, ["1", "2"], 10**6)
    assert {index: colour_of(uri) for index, uri in found.by_index.items()} == {"1": BLUE}


def test_why_there_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.tsv"
    run = table_of(path, [("1", png64(RED), "q"), ("2", "A" * 100, "q"), ("3", png64(BLUE), "q")])
    some = question_pictures.load([run], NAME, ["1", "2"], 10**6)
    assert (list(some.by_index), some.reason) == (["1"], "Pictures that cannot be read: 1.")
    few = question_pictures.load([run], NAME, ["1", "3"], 10)
    assert (list(few.by_index), few.reason) == (["1"], "Pictures left off to keep the page small: 1.")
    path.write_text(path.read_text() + "4\t\tq\n")
    assert "another sha256" in question_pictures.load([run], NAME, ["1"], 10**6).reason
    path.unlink()
    assert "no longer there" in question_pictures.load([run], NAME, ["1"], 10**6).reason
    bare = Run("a", tmp_path, {NAME: {}})
    assert "do not record" in question_pictures.load([bare], NAME, ["1"], 10**6).reason
