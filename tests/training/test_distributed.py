"""Spread over processes, training is the same mathematics; real `xtuner train`, real DeepSpeed on gloo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_in_turn import Run, train_in_turn

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.artifacts import ADAPTERS
from moslora_xtuner.training.launch import train

pytestmark = pytest.mark.slow
STEPS, GLOBAL_BATCH = 10, 8


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
    # Held out: 11 records, which no number of processes and batches divides, two of them without a picture.
    (folder / "held_out.json").write_text(json.dumps(records[4:15]))
    prepare(folder / "held_out.json", folder / "images", tiny_base / "llm", folder / "held_out")
    return {"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(folder), "OMP_NUM_THREADS": "1"}


PLAIN: dict[str, str] = {}
FAST = {
    **dict.fromkeys(("model.fused_adapters", "model.lean_mlp", "model.chunked_loss"), "True"),
    "model.skip_padding_mask": "True", "model.use_activation_checkpointing": "True", "model.checkpointed_blocks": "1",
}  # fmt: skip
BUDGET = {"train_cfg.max_tokens": "1000"}
HELD_OUT = "default_hooks.validation.data"
LOOKED_AT = {HELD_OUT: "DIGITS_DATA/held_out", "default_hooks.validation.keep": "best", "model.chunked_loss": "True"}
DROPOUT = {"model.llm_lora.lora_dropout": "0.3", "model.visual_encoder_lora.lora_dropout": "0.3"}


@dataclass(frozen=True)
class Case:
    """How one training is spread and cut."""

    processes: int
    deepspeed: str | None
    accumulation: int = 1
    more: Mapping[str, str] = field(default_factory=dict)
    mean: str = "global_batch"

    def options(self) -> list[str]:
        """The global batch is always the same."""
        batch = GLOBAL_BATCH // self.processes // self.accumulation
        options = {
            "train_dataloader.batch_size": batch,
            "train_dataloader.sampler.per_device_batch_size": batch * self.accumulation,
            "optim_wrapper.accumulative_counts": self.accumulation,
            "train_cfg.loss_mean": self.mean,
            "model.llm_lora.lora_dropout": 0.0,
            "model.visual_encoder_lora.lora_dropout": 0.0,
            "default_hooks.logger.interval": 1,
            "log_processor.window_size": 1,
            "optim_wrapper.optimizer.lr": 5e-4,
            **self.more,
        }
        if HELD_OUT in self.more:
            options["default_hooks.validation.interval"] = STEPS // 2 * self.cut
        return [f"{key}={value}" for key, value in options.items()]

    @property
    def cut(self) -> int:
        """Iterations of a step; with a budget an iteration is one."""
        return 1 if "train_cfg.max_tokens" in self.more else self.accumulation

    def losses(self, out: Path) -> list[float]:
        """Of the optimiser steps: means over a step's micro-batches."""
        (file,) = out.glob("*/vis_data/scalars.json")
        rows: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
        seen = [row["loss"] for row in rows if "loss" in row]
        cut = self.cut
        assert len(seen) == STEPS * cut
        return [sum(seen[i : i + cut]) / cut for i in range(0, len(seen), cut)]

    def validation(self, out: Path) -> list[float]:
        """Losses over the held-out records, half way and at the end, from the run's record."""
        told = json.loads((out / ADAPTERS / "training.json").read_text())["validation"]
        assert (told["records"], told["text_only"], told["keep"]) == (11, 2, "best")
        assert [step for step, _ in told["losses"]] == [STEPS // 2 * self.cut, STEPS * self.cut]
        return [loss for _, loss in told["losses"]]


CASES = {
    "one": Case(1, "zero2", more=LOOKED_AT),
    "accumulation": Case(1, "zero2", 4),
    "zero2": Case(2, "zero2"),
    "both, fast": Case(2, "zero2", 2, {**FAST, **LOOKED_AT}),
    "dropout": Case(2, "zero2", more={**DROPOUT, "model.chunked_loss": "True"}),
    "dropout, looked at": Case(2, "zero2", more={**DROPOUT, **LOOKED_AT}),
    "zero2, budget": Case(2, "zero2", 1, BUDGET),
    "micro_batch": Case(2, "zero2", mean="micro_batch"),
    "zero3": Case(2, "zero3"),
    "zero3, fast": Case(2, "zero3", 1, FAST),
    "zero3, looked at": Case(2, "zero3", more={HELD_OUT: LOOKED_AT[HELD_OUT], "default_hooks.validation.keep": "best"}),
    "zero3, budget": Case(2, "zero3", 2, BUDGET),
    "plain": Case(1, None),
    "plain, budget": Case(1, None, 2, {**BUDGET, **LOOKED_AT}),
}


def placed(case: Case, digits: dict[str, str]) -> list[str]:
    return [option.replace("DIGITS_DATA", digits["DIGITS_DATA"]) for option in case.options()]


@pytest.fixture(scope="module")
def trained(digits: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case trained, those with the same processes and the same DeepSpeed in one start."""
    out = tmp_path_factory.mktemp("trained")
    families = {(case.processes, case.deepspeed) for case in CASES.values()}
    for processes, deepspeed in sorted(families, key=str):
        names = [name for name, case in CASES.items() if (case.processes, case.deepspeed) == (processes, deepspeed)]
        runs = [Run("digits_moslora", out / name, placed(CASES[name], digits), deepspeed) for name in names]
        train_in_turn(runs, out / f"{processes} {deepspeed}", digits, processes)
    return out


@pytest.fixture(scope="module")
def one(trained: Path) -> list[float]:
    """One process with the whole batch: what the others are held to."""
    losses = CASES["one"].losses(trained / "one")
    assert losses[0] - min(losses) > 0.05  # it learns: equal losses would otherwise prove little
    return losses


@pytest.mark.parametrize(
    "name", ["zero2", "zero3", "accumulation", "both, fast", "zero3, fast", "zero2, budget", "zero3, budget"]
)
def test_the_same_losses_and_adapters(name: str, trained: Path, one: list[float]) -> None:
    """Also cut by tokens into more or fewer micro-batches from step to step."""
    assert CASES[name].losses(trained / name) == pytest.approx(one, rel=0, abs=1e-4)
    require_equal_adapters(trained / "one", trained / name)
    told = json.loads((trained / name / ADAPTERS / "training.json").read_text())
    assert told["settings"]["accumulation"] == CASES[name].cut


def require_equal_adapters(one: Path, other: Path) -> None:
    for part in ("llm", "visual_encoder"):
        name = f"{ADAPTERS}/{part}/adapter_model.safetensors"
        wanted, found = load_file(one / name), load_file(other / name)
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=2e-3, msg=key)


def test_the_same_validation_losses(trained: Path) -> None:
    """Eleven records, each once, however many processes share them and batches hold them; ZeRO-3 in one way of two."""
    one = CASES["one"].validation(trained / "one")
    assert one[1] < one[0] - 0.01
    for name in ("both, fast", "zero3, looked at"):
        assert CASES[name].validation(trained / name) == pytest.approx(one, rel=0, abs=1e-4), name
    # Without DeepSpeed gradients are clipped otherwise; half way nothing has come of it yet.
    assert CASES["plain, budget"].validation(trained / "plain, budget") == pytest.approx(one, rel=0, abs=5e-2)


@pytest.mark.parametrize("name", ["dropout", "zero3"])
def test_a_validation_changes_no_bit_of_the_training(name: str, trained: Path) -> None:
    other = f"{name}, looked at"
    assert CASES[other].losses(trained / other) == CASES[name].losses(trained / name)
    assert len(CASES[other].validation(trained / other)) == 2
    files = [trained / run / ADAPTERS / part / "adapter_model.safetensors"
             for part in ("llm", "visual_encoder") for run in (name, other)]  # fmt: skip
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[2].read_bytes() == files[3].read_bytes()


def test_the_same_with_a_budget_without_deepspeed(trained: Path) -> None:
    fixed, budget = (CASES[name].losses(trained / name) for name in ("plain", "plain, budget"))
    assert budget == pytest.approx(fixed, rel=0, abs=1e-4)
    require_equal_adapters(trained / "plain", trained / "plain, budget")


def refused(case: Case, digits: dict[str, str], out: Path, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        train(
            "digits_moslora", processes=case.processes, deepspeed=case.deepspeed, work_dir=out,
            cfg_options=case.options(), environment=digits, progress=lambda *_: None,
        )  # fmt: skip


def test_a_quantised_model_is_not_cut_up(digits: dict[str, str], tmp_path: Path) -> None:
    quantised = {
        "model.llm.quantization_config.type": "transformers.BitsAndBytesConfig",
        "model.llm.quantization_config.load_in_4bit": "True",
    }
    words = "ConfigError: a model in 4 bits cannot be cut up by ZeRO-3"
    refused(Case(1, "zero3", more=quantised), digits, tmp_path / "run", words)


def test_an_unknown_mean_is_refused(digits: dict[str, str], tmp_path: Path) -> None:
    words = "loss_mean is 'tokens': give micro_batch or global_batch"
    refused(Case(1, "zero2", mean="tokens"), digits, tmp_path / "run", words)


def test_per_micro_batch_it_is_another_loss(trained: Path, one: list[float]) -> None:
    """The default of the reproduction recipes weighs tokens by their micro-batch, so the cut matters."""
    losses = CASES["micro_batch"].losses(trained / "micro_batch")
    assert max(abs(a - b) for a, b in zip(losses, one, strict=True)) > 1e-3
