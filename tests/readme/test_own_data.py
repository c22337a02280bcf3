"""The page for one's own data, typed line by line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from moslora_xtuner.eval.results import scores

PAGE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_from_ten_pictures_to_an_answered_question(tmp_path: Path) -> None:
    (drawing,) = blocks("python")
    subprocess.run([sys.executable, "-c", drawing], cwd=tmp_path, check=True)
    lines = [line.partition("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    verbs = [line.split()[1] for line in lines]
    assert verbs == ["data", "train", "ask", "eval", "report", "demo", "export"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    said = {}
    for verb, line in zip(verbs, lines, strict=True):
        if verb == "demo":  # tests/serving/test_demo.py: it does not end by itself
            continue
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stderr[-2000:])
        said[verb] = done.stdout
    assert "20 records, 0 text only, no faults" in said["data"]
    assert "20 records, 20 with a picture" in " ".join(said["train"].split())
    assert said["ask"] == "black\n"
    assert f"It says `{said['ask'].strip()}`." in PAGE
    before, after = (scores.read(tmp_path / "runs" / "twenty-eval" / name).benchmarks for name in ("digits", "twenty"))
    assert after["questions"]["overall"] == 100 > before["questions"]["overall"]
    assert (tmp_path / "runs" / "twenty-report" / "report.html").is_file()
    assert (tmp_path / "runs" / "export" / "twenty" / "README.md").is_file()
