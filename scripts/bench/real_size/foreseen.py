"""What `moslora plan` says of a run at a real size, and how many layers this machine holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from moslora_xtuner.training.plan.costs import host_memory_while_loading
from moslora_xtuner.training.plan.make import make_plan
from moslora_xtuner.training.plan.memory import GIB
from moslora_xtuner.training.plan.setting import read_setting

from .cut import cut

IMPORTS = 2.0
"""GiB that the three processes of a launch hold before a model: Python, torch, transformers, XTuner, DeepSpeed."""


@dataclass(frozen=True)
class Foreseen:
    """Bytes at the step's peak and its terms, bytes while loading, trained weights of the parts."""

    peak: float
    terms: dict[str, float]
    loading: float
    trained: dict[str, int]


def foresee(recipe: str, environment: dict[str, str], deepspeed: Path, options: list[str]) -> Foreseen:
    """The plan for this machine.

    Raises:
        SystemExit: the plan could not be made; its problems are named.
    """
    with patch.dict(os.environ, environment):
        setting = read_setting(recipe, processes=1, deepspeed=str(deepspeed), options=options)
        made = make_plan(setting)
    # One step is less than a schedule wants, and this machine is smaller than the model: both are known here.
    known = ("warm-up alone takes", "start fewer processes")
    problems = [p for p in made.problems if not any(words in p for words in known)]
    if problems or made.memory is None or made.llm is None or made.visual is None:
        raise SystemExit(f"error: moslora plan {recipe}: {'; '.join(problems) or 'no estimate'}")
    return Foreseen(
        peak=made.memory.total,
        terms=dict(made.memory.rows()),
        loading=host_memory_while_loading(made),
        trained={"llm": made.llm.trainable, "visual_encoder": made.visual.trainable, "projector": made.projector},
    )


def layers_that_fit(whole: Path, layers: int, room: float, foresee_at: Any) -> int:
    """As many layers as `room` bytes hold, by the plan at two depths; at least 2.

    Args:
        whole: the checkpoint of all layers.
        layers: how many it has.
        room: bytes that the whole launch may take.
        foresee_at: a function of a checkpoint's folder that gives its `Foreseen`.
    """
    few, many = 2, layers // 2
    at_few, at_many = (foresee_at(cut(whole, count)).peak for count in (few, many))
    each = (at_many - at_few) / (many - few)
    return int(max(2, min(layers, few + (room - IMPORTS * GIB - at_few) // each)))
