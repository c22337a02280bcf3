"""The memory estimate against what tensors really hold in `xtuner train`, and against real sizes by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from moslora_xtuner.training.launch import train
from moslora_xtuner.training.plan.memory import NF4, Adapted, Batch, Part, Precision, Sharding, estimate
from moslora_xtuner.training.plan.outcome import Plan

CONFIGS = Path(__file__).parents[3] / "xtuner_configs"
TESTS = Path(__file__).parents[2]
WITHIN = 0.15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "deepspeed", "batch", "options"),
    [
        ("llava_llama3_moslora", "zero2", 4, ()),
        ("llava_llama3_moslora", None, 2, ("model.llm_lora.lora_dropout=0.0",)),
        ("llava_internlm2_qmoslora", "zero2", 2, ()),
        ("llava_llama3_pretrain", "zero3", 4, ()),
    ],
)
def test_within_15_per_cent_of_a_real_training(
    name: str, deepspeed: str | None, batch: int, options: tuple[str, ...],
    make: Callable[..., Plan], llava_environment: dict[str, str], tmp_path: Path,
) -> None:  # fmt: skip
    changes = [f"train_dataloader.batch_size={batch}", *options]
    plan = make(name, processes=1, deepspeed=deepspeed, options=changes)
    assert plan.memory is not None
    recipe = tmp_path / f"{name}_measured.py"
    hooks = '[dict(type="moslora_xtuner.training.hooks.SaveAdapters"), dict(type="peak_memory.PeakMemory")]'
    recipe.write_text(f'_base_ = ["{CONFIGS / name}.py"]\ncustom_hooks = {hooks}\n')
    train(
        str(recipe),
        processes=1,
        deepspeed=deepspeed,
        work_dir=tmp_path / "run",
        cfg_options=[
            *changes, "optim_wrapper.accumulative_counts=1", "train_dataloader.num_workers=0",
            "train_dataloader.persistent_workers=False", "train_cfg.max_epochs=None", "train_cfg.max_iters=6",
        ],
        environment={**llava_environment, "PYTHONPATH": str(TESTS), "PEAK_MEMORY": str(tmp_path / "peak.json")},
        progress=lambda *_: None,
    )  # fmt: skip
    measured = json.loads((tmp_path / "peak.json").read_text())["peak"]
    assert plan.memory.total == pytest.approx(measured, rel=WITHIN)


def block(dropout: bool) -> tuple[Adapted, ...]:
    sizes = {"q_proj": (8, 8), "k_proj": (8, 4), "o_proj": (8, 8), "up_proj": (8, 16), "down_proj": (16, 8)}
    return tuple(Adapted(f"layers.0.x.{n}", 0, i, o, 2, True, dropout) for n, (i, o) in sizes.items())


def shapes(dropout: bool = True, vocabulary: int = 0) -> Part:
    return Part(8, 16, 3, vocabulary, 1000, 600, 100, block(dropout))


@pytest.mark.parametrize(("dropout", "inputs"), [(True, (2 + 1) * 48), (False, 2 * (8 + 8 + 8 + 16))])
def test_a_block_by_hand(dropout: bool, inputs: int) -> None:
    """bf16: q, k, o, up read 8 and down 16; without dropout q and k share what they read."""
    made = estimate(shapes(dropout), shapes(), 0, Batch(1, 10, 0, 1, 1), Precision(2, 1, False), Sharding(2, 1))
    states = 2 * (8 * 8 + 4 * 16) + 2 * 4 * 8
    assert made.block == 10 * (inputs + 5 * 2 * 2 * 2 + states)


def test_zero_stages_by_hand() -> None:
    def of(stage: int) -> tuple[float, ...]:
        shard = Sharding(stage, 4, bucket=1000, overlap=True)
        made = estimate(shapes(), shapes(), 40, Batch(1, 10, 1, 4, 2), Precision(2, 1, False), shard)
        return made.weights, made.adapters, made.gradients, made.optimiser, made.buckets

    trained = 100 + 100 + 40
    assert of(0) == (4000, 4 * trained, 4 * trained, 8 * trained, 4000)
    assert of(2) == (4000, 2 * trained, 2 * trained / 4, 12 * trained / 4, 4000)
    assert of(3) == (1000, 2 * trained / 4, 2 * trained / 4, 12 * trained / 4, 4000)


def test_four_bits_by_hand() -> None:
    made = estimate(shapes(), shapes(), 0, Batch(1, 1, 0, 1, 1), Precision(2, 1, True), Sharding(2, 1))
    assert pytest.approx(0.515869140625) == NF4  # 4 bits, 8 for each 64, 32 for each 64 x 256
    assert made.weights == NF4 * 600 + 2 * 400 + 2 * 1000
    assert made.dequantised == 2 * 8 * 16


def test_the_head_counts_the_vocabulary() -> None:
    made = estimate(shapes(vocabulary=50), shapes(), 0, Batch(2, 10, 0, 1, 1), Precision(2, 1, False), Sharding(2, 1))
    assert made.head == 2 * 10 * 50 * (2 + 4 + 4 + 4)
