"""What quickstart refuses before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner import digits_base, quickstart
from moslora_xtuner.errors import OutputError, SetupError


def test_a_missing_base_model_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(digits_base, "files", lambda _: tmp_path)
    with pytest.raises(SetupError, match=r"base model is missing.*install the package again"):
        quickstart.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_too_little_space_and_a_foreign_folder_are_refused(
    monkeypatch: pytest.MonkeyPatch, tiny_base: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(quickstart, "digits_base", lambda: tiny_base)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match="not made by moslora"):
        quickstart.run(tmp_path, processes=1)
    monkeypatch.setattr(quickstart, "GIGABYTES", 1e9)
    with pytest.raises(OutputError, match="GB needed"):
        quickstart.run(tmp_path / "run", processes=1)
    assert not (tmp_path / "run").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
