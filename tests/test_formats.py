"""The numbers of our own files: each reader takes its own, takes files older than numbers, and refuses newer ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner.errors import MoSLoRAError
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.results.manifest import Made, Manifest
from moslora_xtuner.export.form import LLAVA, LORA, ExportForm
from moslora_xtuner.formats import unreadable
from moslora_xtuner.training.artifacts import TrainingRecord

MADE = Made(judge="m", batch_size=4, versions={"torch": "2"}, git={"commit": "c"})
RECORD = TrainingRecord("llm", "vit", "llama3_chat", True, -2, steps=3, bits={"llm": 4}, versions={"torch": "2"})
FORM = ExportForm(LLAVA, "a", "S{system}", "I{input}", ("</s>",), "be brief", False, False, "<pic>", {"steps": 3})
FILES: dict[str, tuple[Any, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "scores.json": (
        Manifest(model="a", facts={"export": {"x": 1}}, made=MADE, unscored={"MME": "why"}),
        lambda folder: scores.write(folder, "a", {"MMVet": {"overall": 1.0, "scale": 100.0, "judge": None}},
                                    FILES["scores.json"][0]),
        lambda folder: scores.read(folder).manifest,
    ),
    "training.json": (RECORD, RECORD.write, TrainingRecord.read),
    "moslora_export.json": (FORM, FORM.write, ExportForm.read),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    value, write, read = FILES[name]
    write(tmp_path)
    assert json.loads((tmp_path / name).read_text())["format"] == 1
    assert read(tmp_path) == value


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("number", [2, 0, True, "1.0", None])
def test_another_number_is_refused_in_words(name: str, number: Any, tmp_path: Path) -> None:
    _, write, read = FILES[name]
    write(tmp_path)
    content = json.loads((tmp_path / name).read_text())
    (tmp_path / name).write_text(json.dumps({**content, "format": number}))
    if name == "moslora_export.json" and isinstance(number, str):
        assert read(tmp_path).kind == number  # an older file's kind, which every use of it checks
        return
    with pytest.raises(MoSLoRAError, match=r"has the format .*, and this version reads 1: update") as fault:
        read(tmp_path)
    assert str(tmp_path / name) in str(fault.value)


def test_files_older_than_numbers_are_read(tmp_path: Path) -> None:
    for name, (value, write, read) in FILES.items():
        write(tmp_path)
        content = json.loads((tmp_path / name).read_text())
        del content["format"]
        if name == "moslora_export.json":
            content["format"] = content.pop("kind")
        (tmp_path / name).write_text(json.dumps(content))
        assert read(tmp_path) == value
    old = {"format": "lora", "template": {"INSTRUCTION": "{input}"}}
    (tmp_path / "moslora_export.json").write_text(json.dumps(old))
    assert ExportForm.read(tmp_path).kind == LORA


def test_an_older_manifest_says_once_for_all_benchmarks_with_what_they_were_made() -> None:
    old = {"judge": "m", "batch_size": 4, "precision": "fp32", "versions": {"torch": "2"}, "datasets": {"MME": {}}}
    assert Manifest.read(old).made_of("MME") == Made(judge="m", batch_size=4, precision="fp32", versions={"torch": "2"})
    new = {**old, "datasets": {"MME": {"made": {"batch_size": 8}}}}
    assert Manifest.read(new).made_of("MME") == Made(batch_size=8)
    assert Manifest.read(new).made_of("MMVet").batch_size == 4


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ([], "manifest must be an object"),
        ({"datasets": []}, "manifest.datasets"),
        ({"datasets": {"MME": 3}}, "manifest.datasets.MME"),
        ({"datasets": {"MME": {"made": 3}}}, "manifest.datasets.MME.made"),
        ({"versions": "2"}, "manifest.versions"),
        ({"unscored": ["MME"]}, "manifest.unscored"),
        ({"format": 2}, "this version reads 1"),
    ],
)
def test_a_wrong_field_of_a_manifest_is_named(content: Any, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Manifest.read(content)


def test_no_number_is_the_first() -> None:
    assert unreadable({}) is None
    assert unreadable({"format": 1}) is None
    assert "2" in str(unreadable({"format": 2}))
