"""Forty steps of a real digits training, with everything that makes a step cheaper and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moslora_xtuner.training.launch import train

pytestmark = pytest.mark.slow
STEPS, BATCH = 40, 4
FAST = ("fused_adapters", "lean_mlp", "chunked_loss", "skip_padding_mask", "use_activation_checkpointing")


def losses(out: Path, data: Path, *options: str) -> list[float]:
    train(
        "digits_moslora",
        processes=1,
        deepspeed="zero2",
        work_dir=out,
        cfg_options=[
            f"train_dataloader.batch_size={BATCH}", f"train_dataloader.sampler.per_device_batch_size={BATCH}",
            "default_hooks.logger.interval=1", "log_processor.window_size=1", *options,
        ],
        environment={"DIGITS_DATA": str(data), "OMP_NUM_THREADS": "1"},
        progress=lambda *_: None,
    )  # fmt: skip
    (file,) = out.glob("*/vis_data/scalars.json")
    return [row["loss"] for row in map(json.loads, file.read_text().splitlines()) if "loss" in row]


def test_over_forty_steps_they_part_by_rounding_alone(tmp_path: Path) -> None:
    """With the recipe's dropout and rate, on the digits base: float32 on a CPU."""
    import importlib.resources

    from moslora_xtuner.data.digits.write import write_digits
    from moslora_xtuner.data.prepare import prepare

    data = tmp_path / "data"
    write_digits(data, seed=5, scenes=STEPS * BATCH, test_questions=16)
    base = Path(str(importlib.resources.files("moslora_xtuner"))) / "assets" / "digits_base"
    prepare(data / "train.json", data / "images", base / "llm", data / "store")
    plain = losses(tmp_path / "plain", data)
    fast = losses(tmp_path / "fast", data, *(f"model.{way}=True" for way in FAST), "model.checkpointed_blocks=1")
    assert len(plain) == STEPS
    assert sum(plain[-10:]) < 0.8 * sum(plain[:10])  # it learns: else equal losses would prove little
    assert fast == pytest.approx(plain, rel=0, abs=1e-4)
