"""The memory estimate against what tensors really hold in `xtuner train`, and against real sizes by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.training.shapes import CLIP_L_336, SHAPES
from bench.training.variants import adapters
from places import CONFIGS, ROOT, TESTS, python_path
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from moslora_xtuner.training.launch import train
from moslora_xtuner.training.loss_head import CHUNK_LOGITS
from moslora_xtuner.training.plan.costs import FILLED, fewest_blocks
from moslora_xtuner.training.plan.memory import NF4, Adapted, Batch, Memory, Part, Precision, Sharding, Ways, estimate
from moslora_xtuner.training.plan.outcome import Plan
from moslora_xtuner.training.plan.shapes import part

WITHIN = 0.15
FAST = tuple(
    f"model.{way}=True" for way in ("fused_adapters", "lean_mlp", "chunked_loss", "skip_padding_mask")
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "deepspeed", "batch", "options"),
    [
        ("llava_llama3_moslora", "zero2", 4, ()),
        ("llava_llama3_moslora", None, 2, ("model.llm_lora.lora_dropout=0.0",)),
        ("llava_internlm2_qmoslora", "zero2", 2, ()),
        ("llava_llama3_pretrain", "zero3", 4, ()),
        ("llava_llama3_moslora", "zero2", 2, (*FAST, "model.checkpointed_blocks=1")),
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
        environment={
            **llava_environment,
            "PYTHONPATH": python_path(TESTS),
            "PEAK_MEMORY": str(tmp_path / "peak.json"),
        },
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


def test_a_kept_block_by_hand() -> None:
    """bf16 on a GPU: q, k, v and attention's output of 8, gate, silu and up of 16, two norms in float32."""
    shard, batch, half = Sharding(2, 1), Batch(1, 10, 0, 1, 1), Precision(2, 1, False)

    def of(**ways: Any) -> float:
        return estimate(shapes(vocabulary=50), shapes(), 0, batch, half, shard, Ways(**ways)).kept_blocks

    states = 2 * 4 * 8 + 2 * (4 * 8 + 3 * 16)
    plain, fused = (2 + 1) * 48 + 5 * 2 * 2 * 2, 2 * (8 + 8 + 8 + 16) + 5 * 2 * 2
    assert of() == 0
    assert of(checkpointing=False) == 3 * 10 * (states + plain)
    assert of(blocks=1, fused=True) == 2 * 10 * (states + fused)
    assert of(blocks=2, fused=True, lean=True) == 10 * (states - 2 * 16 + fused)


def test_a_head_in_chunks_by_hand() -> None:
    part, shard, batch = shapes(vocabulary=50), Sharding(2, 1), Batch(2, 10, 0, 1, 1)
    made = estimate(part, shapes(), 0, batch, Precision(2, 1, False), shard, Ways(supervised=3))
    assert made.head == 3 * 50 * (4 + 4) + 2 * 2 * 3 * 8
    wide = estimate(shapes(vocabulary=10**9), shapes(), 0, batch, Precision(4, 4, False), shard, Ways(supervised=3))
    assert wide.head == CHUNK_LOGITS * 4 + 2 * 4 * 3 * 8


def test_kept_blocks_are_gone_when_one_is_computed_again() -> None:
    made = Memory(
        1, 0, 0, 0, 0, 0, kept_blocks=50, block=70, head=10, kept_visual=5, visual_block=20, dequantised=0, update=0
    )
    assert made.total == 1 + 5 + 70
    assert replace(made, block=0).total == 1 + 5 + 60
    assert replace(made, update=1000).total == 1001


def test_kept_activations_as_an_h200_measured_them() -> None:
    """LLaMA-3 8B, 8 records of at most 832: the peak without checkpointing less the peak with it."""
    rows = json.loads((ROOT / "docs/results/gpu/2026-11-27-h200/bench.json").read_text())["rows"]
    peaks = {row["variant"]: row["peak_bytes"] for row in rows}
    with torch.device("meta"):
        llm = LlamaForCausalLM(LlamaConfig(**SHAPES["llama3-8b"].llm))
        visual = CLIPVisionModel(CLIPVisionConfig(**CLIP_L_336))
    tuned = adapters(SHAPES["llama3-8b"], "moslora")
    parts = part(llm, tuned["llm_lora"]), part(visual, tuned["visual_encoder_lora"])

    def peak(**ways: Any) -> float:
        batch = Batch(8, 832, 8, 576, 336)
        ways |= {"masked": False, "supervised": 0.15 * 8 * 832}
        return estimate(*parts, 0, batch, Precision(2, 1, False), Sharding(0, 1), Ways(**ways)).total

    measured = peaks["moslora_head_kept"] - peaks["moslora_head"]
    assert peak(checkpointing=False) - peak() == pytest.approx(measured, rel=0.1)


def test_the_fewest_blocks_that_fit() -> None:
    def at(blocks: int) -> Memory:
        return estimate(
            shapes(), shapes(), 0, Batch(1, 10, 0, 1, 1), Precision(2, 1, False), Sharding(2, 1), Ways(blocks=blocks)
        )

    totals = [at(blocks).total for blocks in range(4)]
    assert totals[0] > totals[1] > totals[2]
    assert fewest_blocks(at, 3, 1.01 * totals[0] / FILLED) == 0
    assert fewest_blocks(at, 3, 1.01 * totals[1] / FILLED) == 1
    assert fewest_blocks(at, 3, 1.0) == 3
