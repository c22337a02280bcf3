"""VLMEvalKit's own run.py with our model, alone and under torchrun: the answers and scores of `moslora eval`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.eval.vlmevalkit import register

TABLES = ["DigitsMMBench_EN", "DigitsMME", "DigitsTextVQA"]


@pytest.fixture(scope="module")
def ours(export: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate([export], TABLES, data_root, tmp_path_factory.mktemp("runs"), Settings(batch_size=1, quiet=True))[0]


def run_py(words: list[str], model: Path, data_root: Path, work: Path) -> None:
    environment = {**os.environ, "MOSLORA_MODEL": str(model), "LMUData": str(data_root)}
    environment["PRED_FORMAT"] = "json"  # xlsx cannot hold what a random model says
    command = [*words, "-m", "moslora_xtuner.eval.vlmevalkit", "--model", "moslora", "--data", *TABLES]
    command += ["--work-dir", str(work), "--judge", "exact_matching", "--mode", "infer"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def answers(folder: Path, table: str) -> dict[str, str]:
    lines = (folder / "predictions" / f"{table}.jsonl").read_text().splitlines()
    return {record["index"]: record["prediction"] for record in map(json.loads, lines)}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_run_py_gives_the_same_answers(
    ours: Path, export: Path, data_root: Path, tmp_path: Path, processes: int
) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [sys.executable, *(torchrun if processes == 2 else [])]
    run_py(words, export, data_root, tmp_path)
    for table in TABLES:
        (file,) = tmp_path.rglob(f"moslora_{table}.json")
        found = {str(row["index"]): row["prediction"] for row in json.loads(file.read_text())}
        assert found == answers(ours, table)


def test_registered_under_any_name(export: Path, data_root: Path, ours: Path) -> None:
    register("mine", export, precision="fp32")
    from vlmeval.config import supported_VLM

    model = supported_VLM["mine"]()
    table = pandas.read_csv(data_root / "DigitsTextVQA.tsv", sep="\t", dtype=str)
    assert model.use_custom_prompt("DigitsTextVQA")
    assert model.use_custom_prompt("MMStar")  # `moslora eval` scores it too
    assert not model.use_custom_prompt("BLINK")  # VLMEvalKit's own prompt
    message = model.build_prompt(table.iloc[2], dataset="DigitsTextVQA")
    assert [part["type"] for part in message] == ["image", "text"]
    assert message[1]["value"] == "Question 2?\nAnswer the question using a single word or phrase."
    assert model.generate(message, dataset="DigitsTextVQA") == answers(ours, "DigitsTextVQA")["2"]
    with pytest.raises(DataError, match="2 images"):
        model.generate([message[0], *message], dataset="BLINK")


def test_without_a_model_it_says_what_to_set(data_root: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MOSLORA_MODEL"}
    command = [sys.executable, "-m", "moslora_xtuner.eval.vlmevalkit", "--model", "moslora", "--data", "MME"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: MOSLORA_MODEL is not set" in done.stderr
