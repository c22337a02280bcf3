"""Spread over processes, training is the same mathematics; real `xtuner train`, real DeepSpeed on gloo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.artifacts import ADAPTERS
from moslora_xtuner.training.launch import train

pytestmark = pytest.mark.slow
STEPS, GLOBAL_BATCH = 20, 8


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> dict[str, str]:
    """Records for exactly STEPS steps, every seventh without an image, and the random base that reads them."""
    from moslora_xtuner.data.digits.write import write_digits
    from moslora_xtuner.data.prepare import prepare

    folder = tmp_path_factory.mktemp("distributed") / "data"
    write_digits(folder, seed=3, scenes=STEPS * GLOBAL_BATCH, test_questions=16)
    records = json.loads((folder / "train.json").read_text())
    assert len(records) == STEPS * GLOBAL_BATCH
    for record in records[::7]:
        record.pop("image", None)
        for turn in record["conversations"]:
            turn["value"] = turn["value"].replace("<image>", "").strip()
    (folder / "train.json").write_text(json.dumps(records))
    prepare(folder / "train.json", folder / "images", tiny_base / "llm", folder / "store")
    return {"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(folder), "OMP_NUM_THREADS": "1"}


def run(
    digits: dict[str, str], out: Path, processes: int, deepspeed: str | None, accumulation: int = 1,
    mean: str = "global_batch", **more: str,
) -> list[float]:  # fmt: skip
    """The losses of the optimiser steps: means over a step's micro-batches."""
    batch = GLOBAL_BATCH // processes // accumulation
    options = {
        "train_dataloader.batch_size": batch,
        "train_dataloader.sampler.per_device_batch_size": batch * accumulation,
        "optim_wrapper.accumulative_counts": accumulation,
        "train_cfg.loss_mean": mean,
        "model.llm_lora.lora_dropout": 0.0,
        "model.visual_encoder_lora.lora_dropout": 0.0,
        "default_hooks.logger.interval": 1,
        "log_processor.window_size": 1,
        "optim_wrapper.optimizer.lr": 5e-4,
        **more,
    }
    train(
        "digits_moslora",
        processes=processes,
        deepspeed=deepspeed,
        work_dir=out,
        cfg_options=[f"{key}={value}" for key, value in options.items()],
        environment=digits,
        progress=lambda *_: None,
    )
    (file,) = out.glob("*/vis_data/scalars.json")
    rows: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
    seen = [row["loss"] for row in rows if "loss" in row]
    if "train_cfg.max_tokens" in more:
        accumulation = 1  # an iteration is a step
    assert len(seen) == STEPS * accumulation
    return [sum(seen[i : i + accumulation]) / accumulation for i in range(0, len(seen), accumulation)]


@pytest.fixture(scope="module")
def one(digits: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[float], Path]:
    """One process with the whole batch: what the others are held to."""
    out = tmp_path_factory.mktemp("one") / "run"
    losses = run(digits, out, 1, "zero2")
    assert losses[0] - min(losses) > 0.05  # it learns: equal losses would otherwise prove little
    return losses, out


PLAIN: dict[str, str] = {}
FAST = {
    **dict.fromkeys(("model.fused_adapters", "model.lean_mlp", "model.chunked_loss"), "True"),
    "model.skip_padding_mask": "True", "model.use_activation_checkpointing": "True", "model.checkpointed_blocks": "1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("processes", "deepspeed", "accumulation", "options"),
    [
        (2, "zero2", 1, PLAIN), (2, "zero3", 1, PLAIN), (1, "zero2", 4, PLAIN), (2, "zero2", 2, FAST),
        (2, "zero3", 1, FAST),
    ],
    ids=["zero2", "zero3", "accumulation", "both, fast", "zero3, fast"],
)  # fmt: skip
def test_the_same_losses_and_adapters(
    processes: int, deepspeed: str, accumulation: int, options: dict[str, str], digits: dict[str, str],
    one: tuple[list[float], Path], tmp_path: Path,
) -> None:  # fmt: skip
    losses = run(digits, tmp_path / "run", processes, deepspeed, accumulation, **options)
    assert losses == pytest.approx(one[0], rel=0, abs=1e-4)
    require_equal_adapters(one[1], tmp_path / "run")


def require_equal_adapters(one: Path, other: Path) -> None:
    for part in ("llm", "visual_encoder"):
        name = f"{ADAPTERS}/{part}/adapter_model.safetensors"
        wanted, found = load_file(one / name), load_file(other / name)
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=2e-3, msg=key)


@pytest.mark.parametrize(("deepspeed", "accumulation"), [("zero2", 1), ("zero3", 2)])
def test_the_same_with_a_budget_of_tokens(
    deepspeed: str, accumulation: int, digits: dict[str, str], one: tuple[list[float], Path], tmp_path: Path
) -> None:
    """On two processes, cut by tokens into more or fewer micro-batches from step to step: the same steps."""
    losses = run(digits, tmp_path / "run", 2, deepspeed, accumulation, **{"train_cfg.max_tokens": "1000"})
    assert losses == pytest.approx(one[0], rel=0, abs=1e-4)
    require_equal_adapters(one[1], tmp_path / "run")


def test_the_same_with_a_budget_without_deepspeed(digits: dict[str, str], tmp_path: Path) -> None:
    fixed = run(digits, tmp_path / "fixed", 1, None)
    budget = run(digits, tmp_path / "budget", 1, None, 2, **{"train_cfg.max_tokens": "1000"})
    assert budget == pytest.approx(fixed, rel=0, abs=1e-4)
    require_equal_adapters(tmp_path / "fixed", tmp_path / "budget")


def test_a_quantised_model_is_not_cut_up(digits: dict[str, str], tmp_path: Path) -> None:
    quantised = {
        "model.llm.quantization_config.type": "transformers.BitsAndBytesConfig",
        "model.llm.quantization_config.load_in_4bit": "True",
    }
    with pytest.raises(TrainingError, match="ConfigError: a model in 4 bits cannot be cut up by ZeRO-3"):
        run(digits, tmp_path / "run", 1, "zero3", **quantised)


def test_an_unknown_mean_is_refused(digits: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="loss_mean is 'tokens': give micro_batch or global_batch"):
        run(digits, tmp_path / "run", 1, "zero2", mean="tokens")


def test_per_micro_batch_it_is_another_loss(
    digits: dict[str, str], one: tuple[list[float], Path], tmp_path: Path
) -> None:
    """The default of the reproduction recipes weighs tokens by their micro-batch, so the cut matters."""
    losses = run(digits, tmp_path / "run", 2, "zero2", mean="micro_batch")
    assert max(abs(a - b) for a, b in zip(losses, one[0], strict=True)) > 1e-3
