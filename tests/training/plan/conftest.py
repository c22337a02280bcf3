"""Plans of the large recipes on stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from moslora_xtuner.training.plan.make import make_plan
from moslora_xtuner.training.plan.outcome import Plan
from moslora_xtuner.training.plan.setting import read_setting

Make = Callable[..., Plan]
ENOUGH_STEPS = ("optim_wrapper.accumulative_counts=1",)


@pytest.fixture
def make(llava_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Make:
    """Plan a recipe: keywords are `read_setting`'s, and `env` moves variables."""

    def planned(name: str, env: dict[str, str] | None = None, **options: Any) -> Plan:
        for variable, value in {**llava_environment, **(env or {})}.items():
            monkeypatch.setenv(variable, value)
        options["options"] = (*ENOUGH_STEPS, *options.get("options", ()))
        return make_plan(read_setting(name, **options))

    return planned
