"""What was made before our files had numbers still opens: a store, a run, its export, and the scores of it.

tests/fixtures/first_formats was made by the commit before them, on the stand-in of the digits base (`tiny_base`), and
has BASE, EXPORT and LMU where that machine's folders stood.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from places import TESTS
from safetensors.torch import load_file
from small_tables import mme_rows, write_tsv

from moslora_xtuner.data.tokens.store import open_store
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.models.resolve import find
from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.export.form import LLAVA, ExportForm
from moslora_xtuner.export.merge import export
from moslora_xtuner.training.artifacts import TrainingRecord

FIRST = TESTS / "fixtures" / "first_formats"


@pytest.fixture
def run(tiny_base: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(FIRST / "run", tmp_path / "run"))
    for path in folder.rglob("*.json"):
        path.write_text(path.read_text().replace("BASE", str(tiny_base)))
    return folder


def test_a_store(llama3_tokenizer: Any, tmp_path: Path) -> None:
    manifest, table = open_store(FIRST / "store", tmp_path, llama3_tokenizer, "llama3_chat")
    assert (manifest["records"], manifest["tokens"]) == (6, 2626)
    lengths = [len(table.row(place)["input_ids"]) for place in range(6)]
    assert sum(lengths) == 2626


def test_a_run_is_exported_to_the_weights_that_it_was(run: Path, tmp_path: Path) -> None:
    record = TrainingRecord.read(run / "adapters")
    assert (record.steps, record.bits["llm"], record.versions["peft"]) == (163, None, "0.17.1")
    made, before = export(run, tmp_path / "export", name="MoSLoRA"), load_file(FIRST / "export" / "model.safetensors")
    after = load_file(made / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    assert json.loads((made / "moslora_export.json").read_text())["source"]["steps"] == 163


def test_an_export_and_its_scores(tmp_path: Path) -> None:
    form = ExportForm.read(FIRST / "export")
    assert (form.kind, form.name, form.source["steps"]) == (LLAVA, "MoSLoRA", 163)
    model = find(str(FIRST / "export"), precision=Precision.fp32)
    before = scores.read(FIRST / "eval" / "MoSLoRA")
    assert before.manifest.model_sha256 == model.sha256
    assert before.manifest.made_of("DigitsMME").batch_size == 64
    assert before.manifest.made_of("DigitsMME").versions["torch"] == "2.11.0"
    page = write_report([FIRST / "eval" / "MoSLoRA"], tmp_path / "report")
    assert "transformers 4.48.0" in page.read_text()
    # The same command goes on in the old folder: other benchmarks' scores would stay, and these are made anew.
    shutil.copytree(FIRST / "eval", tmp_path / "eval")
    (tmp_path / "lmu").mkdir()
    write_tsv(tmp_path / "lmu" / "DigitsMME.tsv", mme_rows()[:4])
    only = Settings(quiet=True, precision=Precision.fp32)
    (folder,) = evaluate(
        [FIRST / "export"], ["DigitsMME"], tmp_path / "lmu", tmp_path / "eval", only, names=["MoSLoRA"]
    )
    assert scores.read(folder).benchmarks == before.benchmarks
    assert json.loads((folder / "scores.json").read_text())["format"] == 1
