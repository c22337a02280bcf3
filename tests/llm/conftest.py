"""Checkpoints of both families."""

from __future__ import annotations

from pathlib import Path

import pytest
import standins


@pytest.fixture(scope="session")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaMA-3."""
    return standins.make_llama3(tmp_path_factory.mktemp("llm") / "llama3")


@pytest.fixture(scope="session")
def internlm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small InternLM2."""
    return standins.make_internlm2(tmp_path_factory.mktemp("llm") / "internlm2")
