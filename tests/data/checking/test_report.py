"""What a check leaves behind, and what its verb says, for people and for machines."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bad_cases import CASES, image_folder, sound, write, write_case
from typer.testing import CliRunner, Result

from moslora_xtuner.cli import data  # noqa: F401
from moslora_xtuner.cli.app import app
from moslora_xtuner.data.checking.mix665k import PARTS, RECORDS, source_table
from moslora_xtuner.errors import DataError, MoSLoRAError, OutputError, UsageError


def moslora(*arguments: Any) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_the_published_mix_sums_up() -> None:
    assert RECORDS == 665_298
    assert {part.name: part.records for part in PARTS}["text only"] == 40_688


def test_sources_beside_the_published_mix() -> None:
    found = Counter({"coco": 364_100, "gqa": 70_000, "vg": 86_417, "": 40_688, "mine": 5})
    rows = {row.name: row for row in source_table(found, Counter({"vg": 3}))}
    assert list(rows) == ["coco", "gqa", "ocr_vqa", "textvqa", "vg", "text only", "mine/"]
    assert [(row.found, row.expected, row.missing) for row in rows.values()] == [
        (364_100, 364_100, 0),
        (70_000, 72_140, 0),
        (0, 80_000, 0),
        (0, 21_953, 0),
        (86_417, 86_417, 3),
        (40_688, 40_688, 0),
        (5, None, 0),
    ]
    # What is short or missing is said where to get; what is whole is not.
    assert [name for name, row in rows.items() if row.where] == ["gqa", "ocr_vqa", "textvqa", "vg"]


def test_other_data_is_not_held_against_the_mix() -> None:
    found = Counter({"coco": 5, "": 2, ".": 4, **{f"f{n:02d}": 30 - n for n in range(12)}})
    rows = source_table(found, Counter({"f11": 1}))
    assert all(row.expected is None for row in rows)
    assert [row.name for row in rows[:2]] == ["text only", "f00/"]
    assert rows[-1].name == "4 more folders"
    assert (sum(row.found for row in rows), sum(row.missing for row in rows)) == (sum(found.values()), 1)
    assert next(row.found for row in source_table(Counter({".": 4}), Counter()) if row.name == "(no folder)") == 4


def test_a_sound_file(tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    found = moslora("check", write(tmp_path / "a.json", [sound("a", "a.png"), sound("t")]), "--images", images)
    assert found.exit_code == 0
    assert "a.json: 2 records, 1 text only, no faults" in found.stdout
    assert [line.split() for line in found.stdout.splitlines()[1:4]] == [
        ["source", "records", "image", "missing"],
        ["text", "only", "1", "0"],
        ["(no", "folder)", "1", "0"],
    ]


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    source, images = write_case(case, tmp_path)
    out = tmp_path / "report"
    found = moslora("check", source, "--images", images, "-o", out, "--workers", 1)
    assert isinstance(found.exception, DataError)
    assert "1 of 3 records are bad (33 %)" in str(found.exception)
    assert f"(id {case.name}, byte " in found.stdout
    facts = json.loads((out / "report.json").read_text())
    assert facts["faults"][case.kind] == 1
    assert (facts["records"], facts["bad"], facts["text_only"]) == (3, 1, 1)
    lines = [json.loads(line) for line in (out / "problems.jsonl").read_text().splitlines()]
    assert lines == [example for kept in facts["examples"].values() for example in kept]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "1 of 3 records cannot be trained on" in page
    assert case.kind in page
    # Within a budget, and again into the same folder.
    allowed = moslora("check", source, "--images", images, "-o", out, "--skip-bad", "34%", "--workers", 1)
    assert allowed.exit_code == 0
    assert json.loads((out / "report.json").read_text()) == facts


def test_the_page_shows_text_as_text(tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    source = write(tmp_path / "a.json", [sound("<script>alert(1)</script>", "<b>.png")])
    moslora("check", source, "--images", images, "-o", tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_tokens_are_counted_with_a_model(tiny_base: Path, tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    long = {**sound("long"), "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "7 " * 99}]}
    mute = {**sound("mute"), "conversations": [{"from": "human", "value": "7 " * 99}, {"from": "gpt", "value": "A"}]}
    source = write(tmp_path / "a.json", [long, mute, sound("t")])
    found = moslora("check", source, "--images", images, "--model", tiny_base / "llm", "--max-length", 100)
    assert isinstance(found.exception, DataError)
    assert "over-long text: 2 (remark)" in found.stdout
    assert "(id mute, byte " in found.stdout
    assert "nothing to learn in 100 tokens" in found.stdout


def test_fix(tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    nameless = {key: value for key, value in sound("x").items() if key != "id"}
    source = write(tmp_path / "a.json", [nameless, sound("a", "a.png")])
    copy = tmp_path / "b.json"
    found = moslora("check", source, "--images", images, "--fix", copy)
    assert found.exit_code == 0
    assert "2 records, 1 of them changed, 0 left out\n  id given: 1" in found.stdout
    assert moslora("check", copy, "--images", images).exit_code == 0
    write(source, [sound("gone", "none.png"), sound("a", "a.png")])
    lacks = moslora("check", source, "--images", images, "--fix", tmp_path / "c.json")
    assert isinstance(lacks.exception, DataError)
    assert "c.json lacks 1 records that could not be mended" in str(lacks.exception)
    assert json.loads((tmp_path / "c.json").read_text()) == [sound("a", "a.png")]
    allowed = moslora("check", source, "--images", images, "--fix", tmp_path / "d.json", "--skip-bad", "50%")
    assert allowed.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--skip-bad", "many"], UsageError, "give a percentage"),
        (["--skip-bad", "101%"], UsageError, "give a percentage"),
        (["--skip-bad=-1"], UsageError, "give a percentage"),
        (["-o", "full"], OutputError, "was not made by moslora"),
        (["two.json", "--fix", "out.json"], UsageError, "one source at a time"),
    ],
)
def test_wrong_options(
    arguments: list[str], error: type[MoSLoRAError], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for name in ("one.json", "two.json"):
        write(tmp_path / name, [sound("t")])
    found = moslora("check", "one.json", "--images", ".", *arguments)
    assert isinstance(found.exception, error)
    assert message in str(found.exception)
    assert (tmp_path / "full" / "mine.txt").exists()


def test_prepare_says_what_it_cut_and_left_out(tiny_base: Path, tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    long = {**sound("long"), "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "7 " * 99}]}
    one = write(tmp_path / "a.json", [long, sound("t"), sound("t"), sound("gone", "none.png")])
    two = write(tmp_path / "b.jsonl", [sound("a", "a.png")])
    options = ["--images", images, "--model", tiny_base / "llm", "-o", tmp_path / "store", "--max-length", 100]
    refused = moslora("prepare", one, f"{two}@2", *options)
    assert isinstance(refused.exception, DataError)
    assert "missing image: 1" in str(refused.exception)
    found = moslora("prepare", one, f"{two}@2", *options, "--skip-bad", "20%")
    assert found.exit_code == 0
    assert "(5 records, 1 cut, 1 left out)" in found.stdout
    assert "remarks: 1 over-long text, 1 duplicate id" in found.stdout
