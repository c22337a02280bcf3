"""Files that people download run nothing: each door that stood open is knocked at with a canary."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import standins
from places import python_path
from small_tables import png64, write_tsv

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.scoring.score import Place, score
from moslora_xtuner.eval.tasks import tables
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS
from moslora_xtuner.llm.load import load_llm, load_tokenizer


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.file}",)


def code(file: Path) -> str:
    return f"[__import__('os').system('touch {file}')]"


CELLS = [
    ("DigitsTextVQA", "answer"), ("DigitsTextVQA", "image_path"), ("DigitsTextVQA", "question"),
    ("DigitsMME", "answer"),
    ("DigitsMME", "image_path"), ("SEEDBench_IMG", "A"), ("SEEDBench_IMG", "answer"), ("SEEDBench_IMG", "index"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "column"), CELLS)
def test_a_cell_of_a_table_is_a_value(name: str, column: str, tmp_path: Path) -> None:
    """Also as an answer: what a model says is read by the same rules."""
    canary = tmp_path / "canary"
    row = {"index": 1, "image": png64(1), "image_path": "count/1.png", "question": "Q?", "A": "x", "B": "y"}
    row |= {"category": "count", "answer": "A"}
    write_tsv(tmp_path / f"{name}.tsv", [row, {**row, "index": 2, column: code(canary)}])
    benchmark = BENCHMARKS[name]
    with suppress(DataError):
        dataset = tables.build_dataset(benchmark, tmp_path, tmp_path / "log")
        asked = ask_all(benchmark, dataset, tmp_path, None)
        place = Place(tmp_path / "out", "m", tmp_path, tmp_path / "log")
        score(Task(benchmark, dataset, asked), [code(canary), "yes"], place)
        assert column != "image_path"
    assert not canary.exists()


LOADING = """
import sys
import torch
import moslora_xtuner.plugin
from mmengine.config import Config
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
for load in (torch.load, lambda file: torch.load(file, weights_only=False), TorchCheckpointEngine().load):
    try:
        load(sys.argv[1])
    except Exception as fault:
        print("said", type(fault).__name__)
print("said", Config.fromstring(open(sys.argv[2]).read(), file_format=".py").get("gpu_ids"))
"""


def test_a_checkpoint_is_data_whoever_reads_it(tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", tmp_path / "iter_1.pth"
    file.write_bytes(pickle.dumps(Canary(canary)))
    (tmp_path / "config.py").write_text(f"import os\nos.system('touch {canary}')\ngpu_ids = [1]\n")
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(file), str(tmp_path / "config.py")],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    said = [line.removeprefix("said ") for line in done.stdout.splitlines() if line.startswith("said ")]
    assert said == ["UnpicklingError", "UnpicklingError", "UnpicklingError", "None"]
    assert not canary.exists()


def test_the_canary_sings_where_pickles_are_trusted(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    canary, file = tmp_path / "canary", tmp_path / "iter_1.pth"
    file.write_bytes(pickle.dumps(Canary(canary)))
    script = f"import torch; torch.load({str(file)!r}, weights_only=False)"
    trusting = {name: value for name, value in os.environ.items() if not name.startswith("TORCH_FORCE_")}
    subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, env=trusting)
    assert canary.exists()


@pytest.mark.parametrize("door", ["code", "pickle"])
def test_a_base_models_folder_is_data(door: str, tmp_path: Path) -> None:
    """Its own Python beside the weights, as some checkpoints ask for, and weights as a pickle."""
    canary, folder = tmp_path / "canary", standins.make_llama3(tmp_path / "llm")
    if door == "code":
        (folder / "evil.py").write_text(f"import os\nos.system('touch {canary}')\nclass Evil: pass\n")
        for file, kinds in (("config.json", ("AutoConfig", "AutoModelForCausalLM")), ("tokenizer_config.json", ())):
            found = json.loads((folder / file).read_text())
            found["auto_map"] = dict.fromkeys(kinds, "evil.Evil") or {"AutoTokenizer": ["evil.Evil", None]}
            (folder / file).write_text(json.dumps(found))
        load_llm(folder)
        load_tokenizer(folder)
    else:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(canary)))
        with pytest.raises(Exception, match=r"."):
            load_llm(folder)
    assert not canary.exists()
