"""The script itself, two steps a stage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from synthetic.digits_base.curriculum import CURRICULUM
from transformers import AutoModelForCausalLM, AutoTokenizer, CLIPVisionModel


def build(folder: Path) -> str:
    command = [sys.executable, str(ROOT / "scripts" / "build_digits_base.py"), "-o", str(folder / "base")]
    command += ["--state", str(folder / "state"), "--fast", "--sight-steps", "4", "--tokens", "300", "--port", "29418"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_a_build_leaves_a_whole_model_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = build(tmp_path)
    assert [stage.name for stage in CURRICULUM if f"{stage.name} 2/2" not in first] == []
    facts = json.loads((tmp_path / "base" / "base.json").read_text())
    assert facts["steps"] == {"sight": 4, **{stage.name: 2 for stage in CURRICULUM}}
    weights = (tmp_path / "base" / "llm" / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base" / "llm")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base" / "llm")
    assert model.config.vocab_size == len(tokenizer)
    assert CLIPVisionModel.from_pretrained(tmp_path / "base" / "visual_encoder").config.image_size == 48
    newest = max((tmp_path / "state").iterdir(), key=lambda path: path.stat().st_mtime)
    newest.unlink()
    again = build(tmp_path)
    assert [stage.name for stage in CURRICULUM if f"{stage.name} 2/2" in again] == [CURRICULUM[-1].name]
    assert (tmp_path / "base" / "llm" / "model.safetensors").read_bytes() == weights
