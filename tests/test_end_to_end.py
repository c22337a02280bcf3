"""From nothing to the report, on a reduced set, by the README's first command as it is written."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

pytestmark = pytest.mark.slow
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODELS = ("base", "lora", "moslora")
BENCHMARKS = {"DigitsMMBench_EN", "DigitsMMBench_CN", "DigitsMME", "DigitsTextVQA"}


def quickstart(out: Path) -> subprocess.CompletedProcess[str]:
    """The README's first command; only the environment says where to and how much."""
    (command,) = re.findall(r"^(bash scripts/quickstart\.sh)\b", README, re.MULTILINE)[:1]
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "MOSLORA_FAST": "1", "MOSLORA_OUT": str(out), "MOSLORA_VENV": sys.prefix},
    )


def test_quickstart_ends_in_a_report_and_a_second_start_trains_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = quickstart(out)
    assert done.returncode == 0, done.stdout + done.stderr
    page = out / "report" / "report.html"
    assert str(page) in done.stdout or str(page.relative_to(tmp_path)) in done.stdout

    scores = {path.parent.name.lower(): json.loads(path.read_text()) for path in out.glob("eval/*/scores.json")}
    assert set(scores) == set(MODELS)
    for found in scores.values():
        assert set(found["benchmarks"]) == BENCHMARKS
        for benchmark in found["benchmarks"].values():
            assert math.isfinite(benchmark["overall"])
            assert 0 <= benchmark["overall"] <= benchmark["scale"]

    html = page.read_text(encoding="utf-8")
    assert all(name in html for name in ("LoRA", "MoSLoRA", "base"))
    assert 'src="http' not in html
    assert (out / "report" / "radar.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "report" / "radar.svg").read_text(encoding="utf-8")

    trained = {path: path.stat().st_mtime_ns for path in out.glob("train/*/adapters/*/adapter_model.safetensors")}
    assert len(trained) == 4  # language model and visual encoder, twice
    answered = {path: path.stat().st_mtime_ns for path in out.glob("eval/*/predictions/*.jsonl")}
    assert len(answered) == 3 * 4  # models, tables
    again = quickstart(out)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in [*trained, *answered]} == trained | answered
    assert "training" not in again.stderr
    assert "questions" not in again.stderr
    assert page.is_file()
