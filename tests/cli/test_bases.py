"""`moslora base`: one line and its exit status where the package is missing; else the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.cli import run_app
from moslora_xtuner.errors import SetupError
from moslora_xtuner.llm import smollm2


def test_without_the_package_it_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    assert run_app(["base", "smollm2", "-o", str(tmp_path / "out")]) == SetupError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the package 'gguf' is missing")
    assert not (tmp_path / "out").exists()


def test_it_says_where_the_model_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm2, "write_smollm2", lambda out: out)
    assert run_app(["base", "smollm2", "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"base model: {tmp_path / 'out'}\n"
    assert run_app(["base", "smollm3", "-o", str(tmp_path / "out")]) == 2
