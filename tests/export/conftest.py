"""Tuned models and the folders that their training would leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuned_runs import tuned_model, write_run

MakeRun = Callable[[Path, str], Path]


@pytest.fixture(scope="session", params=["lora", "moslora"])
def tuned(
    request: pytest.FixtureRequest, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """A tuned model, and its run's folder."""
    model = tuned_model(tiny_base, request.param)
    return model, write_run(
        model, tiny_base / "llm", tiny_base / "visual_encoder", tmp_path_factory.mktemp("run") / request.param
    )
