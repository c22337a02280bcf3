"""The check for a GPU machine, run here on tiny shapes; what it leaves is what the page is written from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import document_gpu
import pytest
from places import ROOT

MACHINE = {"date": str, "card": type(None), "cores": int, "memory_gib": float, "python": str, "versions": dict}
PART = {"part": str, "ok": bool, "fault": type(None), "seconds": float, "machine": dict}
STEP = {
    "variant": str, "step_s": float, "tokens_per_s": float, "peak_bytes": int, "saved_bytes_per_token_layer": float,
    "head_bytes": int, "operations_per_token_layer": int, "operations_per_step": int, "loss": float,
}  # fmt: skip
MEMORY = {"shape": str, "layers": int, "rows": int, "tokens": int, "foreseen_bytes": float, "measured_bytes": int}


def has(content: dict[str, Any], fields: dict[str, type]) -> None:
    """The fields are there and of their types."""
    assert {name: type(content.get(name)) for name in fields} == fields


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What every part wrote, by its name."""
    out = tmp_path_factory.mktemp("check") / "2026-01-01-cpu"
    command = ["bash", str(ROOT / "scripts" / "gpu" / "check.sh"), str(out), "--cpu"]
    environment = {**os.environ, "MOSLORA_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = {file.stem: json.loads(file.read_text()) for file in out.glob("*.json")}
    found["folder"] = {"path": str(out)}
    return found


@pytest.mark.slow
def test_every_part_writes_its_json(checked: dict[str, dict[str, Any]]) -> None:
    parts = {"adapter", "bench", "nf4", "memory", "memory-nf4", "train", "eval", "ceiling"}
    assert checked.keys() == parts | {"folder"}
    for name in parts:
        has(checked[name]["machine"], MACHINE)
    for name in ("adapter", "memory", "memory-nf4", "train", "ceiling"):
        has(checked[name], PART)
        assert checked[name]["ok"]
    for name in ("bench", "nf4"):
        for row in checked[name]["rows"]:
            has(row, STEP)
    for name in ("memory", "memory-nf4"):
        has(checked[name], MEMORY)


@pytest.mark.slow
def test_the_ways_of_training_agree(checked: dict[str, dict[str, Any]]) -> None:
    """B is zero at first, so all of them start with the same loss; and the first update lowers it in each."""
    rows = {row["variant"]: row for row in checked["bench"]["rows"]}
    assert rows.keys() == {"stock_lora", "lora", "moslora", "lora_fast", "moslora_fast"}
    first = [row["losses"][0] for row in rows.values()]
    assert first == pytest.approx([first[0]] * len(rows), abs=1e-5)
    assert all(row["losses"][-1] < row["losses"][0] for row in rows.values())
    # Of the seven layers of a block each keeps r numbers of bf16 more for its mixer.
    extra = rows["moslora"]["saved_bytes_per_token_layer"] - rows["lora"]["saved_bytes_per_token_layer"]
    assert extra == 7 * 16 * 2


@pytest.mark.slow
def test_the_fast_way_keeps_what_was_promised(checked: dict[str, dict[str, Any]]) -> None:
    """Counted, so the same on every machine: at most 0.67 of what stock LoRA keeps, and 0.15 of its head."""
    rows = {row["variant"]: row for row in checked["bench"]["rows"]}
    stock, fast = rows["stock_lora"], rows["moslora_fast"]
    assert fast["saved_bytes_per_token_layer"] <= 0.67 * stock["saved_bytes_per_token_layer"]
    assert fast["head_bytes"] <= 0.15 * stock["head_bytes"]
    assert fast["peak_bytes"] <= 0.8 * stock["peak_bytes"]


@pytest.mark.slow
def test_the_page_is_written_from_them(checked: dict[str, dict[str, Any]]) -> None:
    folder = Path(checked["folder"]["path"])
    made = {name: make() for name, make in document_gpu.tables(folder.parent).items()}
    assert not any(document_gpu.NOT_YET in text or "not measured yet" in text for text in made.values())
    assert f"| MoSLoRA | {checked['bench']['rows'][2]['step_s']:.3f} |" in made["gpu-step"]


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    made = {name: make() for name, make in document_gpu.tables(tmp_path).items()}
    assert made.pop("gpu-memory").count("not measured yet") == 2
    assert set(made.values()) == {document_gpu.NOT_YET}


def test_the_page_says_what_the_files_say() -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "document_gpu.py"), "--check"], check=True)
