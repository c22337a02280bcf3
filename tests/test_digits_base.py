"""The base that ships has a name on command lines, and no folder of that name is hidden by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.digits_base import digits_base, language_model
from moslora_xtuner.eval.models.resolve import find


def test_its_name_stands_for_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (digits_base() / "llm" / "config.json").is_file()
    assert language_model("digits") == str(digits_base() / "llm")
    assert language_model("other/digits") == "other/digits"
    (tmp_path / "digits").mkdir()
    assert language_model("digits") == "digits"


def test_it_can_be_asked_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("digits", quiet=True).sha256 == find(str(digits_base()), quiet=True).sha256
