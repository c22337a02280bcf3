"""The real `xtuner train` on a recipe and on its flat copy: the same losses, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moslora_xtuner.recipes.catalogue import resolve_config
from moslora_xtuner.recipes.flatten import write_flat
from moslora_xtuner.training.launch import train

pytestmark = pytest.mark.slow
BATCH = 8


def losses(config: str, run: Path, base: Path, data: Path) -> list[float]:
    """The loss of every step, as mmengine writes them down in full."""
    size = (f"train_dataloader.batch_size={BATCH}", f"train_dataloader.sampler.per_device_batch_size={BATCH}")
    train(
        config,
        processes=1,
        deepspeed=None,
        work_dir=run,
        cfg_options=[*size, "default_hooks.logger.interval=1"],
        environment={"DIGITS_BASE": str(base), "DIGITS_DATA": str(data), "OMP_NUM_THREADS": "1"},
        progress=lambda *_: None,
    )
    (log,) = run.rglob("scalars.json")
    return [json.loads(line)["loss"] for line in log.read_text().splitlines()]


def test_the_copy_trains_as_the_recipe(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "my_moslora.py"
    write_flat(resolve_config("digits_moslora"), copy)
    recipe = losses("digits_moslora", tmp_path / "recipe", tiny_base, tiny_data)
    assert len(recipe) == 48 // BATCH
    assert len(set(recipe)) > 1
    assert losses(str(copy), tmp_path / "copy", tiny_base, tiny_data) == recipe
