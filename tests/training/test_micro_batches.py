"""A step is the same however its records are cut, and a loop with a budget makes the same steps, resumed or not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import DistSamplerSeedHook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner as MMEngineRunner
from safetensors.torch import load_file

from moslora_xtuner.data.sampler import LengthGroupedSampler
from moslora_xtuner.data.token_budget import TokenBudget
from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.artifacts import ADAPTERS
from moslora_xtuner.training.launch import train
from moslora_xtuner.training.loop import TrainLoop
from moslora_xtuner.training.micro_batches import LOSS_DIVISOR, require_accumulating, set_divisors, train_step

LENGTHS = [5, 2, 9, 9, 3, 7, 4, 6, 1, 8, 2, 2, 5, 3]
SHARE, MAX_TOKENS, STEPS = 4, 14, 4  # 14 rows are three and a half steps, so four
EPOCHS = 3


class Rows:
    """Rows without content that note which of them were asked for."""

    modality_length = [-length for length in LENGTHS]  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(LENGTHS)

    def __getitem__(self, row: int) -> int:
        self.asked.append(row)
        return row


def collate(rows: list[int], image_tokens: int) -> dict[str, Any]:
    """A row has as many supervised tokens as its length says."""
    labels = torch.full((len(rows), 10), -100)
    for place, row in enumerate(rows):
        labels[place, 1 : 1 + LENGTHS[row]] = 5
    return {"data": {"rows": rows, "labels": labels}}


class Runner(SimpleNamespace):
    """What the loop needs of mmengine's runner: its own way to build a loader, a model that notes its batches."""

    def __init__(self, accumulation: int = 1) -> None:
        super().__init__(
            cfg=SimpleNamespace(optim_wrapper={"accumulative_counts": accumulation}), seed=3, _randomness_cfg={},
            optim_wrapper=SimpleNamespace(), param_schedulers=None, val_loop=None, visualizer=SimpleNamespace(),
            epoch=0, steps=[], hooks=[],
        )  # fmt: skip
        self.model = SimpleNamespace(train=lambda: None, train_step=self.note)
        self.now: list[Any] = []

    build_dataloader = staticmethod(MMEngineRunner.build_dataloader)

    def note(self, batch: dict[str, Any], optim_wrapper: Any) -> dict[str, float]:
        self.now.append((batch["data"]["rows"], float(batch["data"][LOSS_DIVISOR])))
        return {"loss": float(len(self.now))}

    def call_hook(self, name: str, **given: Any) -> None:
        if name == "before_train_epoch":
            DistSamplerSeedHook().before_train_epoch(self)
        if name == "after_train_iter":
            count = len(self.now)
            assert given["outputs"] == {"loss": (count + 1) / 2}  # the mean of 1, 2, ...
            assert self.optim_wrapper._accumulative_counts == count
            self.steps.append(self.now)
            self.now = []


def loop(runner: Runner, rows: Rows, **options: Any) -> TrainLoop:
    sampler = {"type": LengthGroupedSampler, "per_device_batch_size": SHARE}
    loader = {"batch_size": 2, "num_workers": 0, "dataset": rows, "sampler": sampler,
              "collate_fn": {"type": collate, "image_tokens": 6}, **options.pop("loader", {})}  # fmt: skip
    options = {"max_epochs": EPOCHS, "max_tokens": MAX_TOKENS, "loss_mean": "global_batch", **options}
    runner.train_loop = TrainLoop(runner, ConfigDict(loader), **options)
    return runner.train_loop


def test_goes_on_where_it_was() -> None:
    """From every step of three epochs, and the rows asked for are the remaining ones."""
    runner = Runner(2)
    made = loop(runner, Rows())
    assert made.max_iters == EPOCHS * STEPS
    made.run()
    whole = runner.steps
    assert len(whole) == EPOCHS * STEPS
    assert len({len(step) for step in whole}) > 1  # the number of micro-batches does change
    fixed = LengthGroupedSampler(Rows(), SHARE, seed=3)
    for number, step in enumerate(whole):
        rows = [row for part, _ in step for row in part]
        order = fixed.order(number // STEPS)[number % STEPS * SHARE :][:SHARE]
        assert sorted(rows) == sorted(order.tolist())
        tokens = sum(LENGTHS[row] for row in rows)
        assert [divisor for _, divisor in step] == pytest.approx([tokens / len(step)] * len(step))
    for done in range(EPOCHS * STEPS + 1):
        runner = Runner(2)
        made = loop(runner, Rows())
        made._iter = done  # as mmengine's runner does when it resumes
        made.run()
        assert runner.steps == whole[done:]
        assert made.dataloader.dataset.asked == [row for step in whole[done:] for part, _ in step for row in part]


def test_a_mean_that_follows_the_cut_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set train_cfg.loss_mean to global_batch"):
        loop(Runner(), Rows(), loss_mean="micro_batch")


def test_a_step_is_told_in_one_way() -> None:
    with pytest.raises(ConfigError, match=r"4 records by train_dataloader.sampler.per_device_batch_size and 6"):
        loop(Runner(3), Rows())


def test_another_batch_sampler_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"take train_dataloader.batch_sampler out"):
        loop(Runner(2), Rows(), loader={"batch_sampler": {"type": TokenBudget}})


class Scaled(BaseModel):
    """The loss of a batch is its number times the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, number: float, mode: str) -> Any:
        return {"loss": self.weight * number}


def test_mmengines_wrapper_accumulates_any_number() -> None:
    """Descent with rate 1: each step goes down by the mean of its numbers."""
    model = Scaled()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 7)
    reached = 0.0
    for numbers in ([4.0], [1.0, 2.0, 6.0], [5.0, 7.0], [3.0]):
        logged = train_step(model, wrapper, [{"number": number} for number in numbers])
        assert logged["loss"].item() == pytest.approx(reached * np.mean(numbers))
        reached -= float(np.mean(numbers))
        assert float(model.weight.detach()) == pytest.approx(reached, abs=1e-12)


def test_deepspeed_is_told_where_a_step_ends() -> None:
    said: list[Any] = []
    engine = SimpleNamespace(
        set_gradient_accumulation_boundary=said.append, set_train_batch_size=said.append, dp_world_size=4,
        train_micro_batch_size_per_gpu=lambda: 8, optimizer=SimpleNamespace(cpu_offload=False),
    )  # fmt: skip
    model = SimpleNamespace(model=engine, train_step=lambda batch, optim_wrapper: said.append(batch) or {"loss": 1.0})
    train_step(model, SimpleNamespace(), ["a", "b", "c"])
    train_step(model, SimpleNamespace(), ["d"])
    assert said == [3 * 8 * 4, False, "a", False, "b", True, "c", 8 * 4, True, "d"]


def test_offloading_that_loses_gradients_is_refused() -> None:
    def engine(offload: bool, steps: int) -> Any:
        return SimpleNamespace(optimizer=SimpleNamespace(cpu_offload=offload, gradient_accumulation_steps=steps))

    require_accumulating(engine(False, 1))
    require_accumulating(engine(True, 2))
    with pytest.raises(ConfigError, match="offload_optimizer and max_tokens"):
        require_accumulating(engine(True, 1))


@pytest.fixture(scope="module")
def store(tiny_base: Path, tiny_data: Path) -> Any:
    """Records whose lengths are those of the tokens, pictures' places apart, and some without a picture."""
    from transformers import AutoTokenizer, CLIPImageProcessor

    from moslora_xtuner.data.dataset import TokenStore

    return TokenStore(
        str(tiny_data / "store"), str(tiny_data / "images"),
        CLIPImageProcessor.from_pretrained(tiny_base / "visual_encoder"),
        AutoTokenizer.from_pretrained(tiny_base / "llm"), "llama3_chat",
    )  # fmt: skip


def cuts(store: Any, processes: int, max_tokens: int) -> list[list[list[int]]]:
    """Of each process the micro-batches of the first step, of eight records."""
    found = []
    for rank in range(processes):
        with patch("moslora_xtuner.data.sampler.get_dist_info", lambda rank=rank: (rank, processes)):
            sampler = LengthGroupedSampler(store, 8 // processes, "modality_lengths", seed=0)
        budget = TokenBudget(sampler, max_tokens=max_tokens, image_tokens=36)
        found.append([part for part, _ in zip(budget, range(next(budget.counts(0))), strict=False)])
    return found


def gradients(model: Any, store: Any, processes: list[list[list[int]]]) -> dict[str, torch.Tensor]:
    """Of the adapters and the projector, as the optimiser gets them: the mean over processes and micro-batches."""
    from moslora_xtuner.data.dataset import collate

    model.zero_grad()
    groups = [[collate([store[row] for row in part], 36) for part in parts] for parts in processes]
    tokens = sum(int((b["data"]["labels"][:, 1:] != -100).sum()) for group in groups for b in group)
    place = "moslora_xtuner.training.micro_batches"
    for group in groups:
        with patch(f"{place}.all_reduce", lambda own: own.fill_(tokens)), \
             patch(f"{place}.get_world_size", lambda: len(groups)):  # fmt: skip
            set_divisors(group)
        for batch in group:
            loss, _ = model.parse_losses(model(**batch, mode="loss"))
            (loss / len(group) / len(groups)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_a_global_batch_does_not_follow_the_cut(dtype: Any, tiny_base: Path, store: Any) -> None:
    """One batch, fixed ones, one record each, budgets, on one and two processes."""
    from tuned_runs import tuned_model

    model = tuned_model(tiny_base, "moslora").to(dtype).train()
    step = cuts(store, 1, 10**6)
    (rows,) = step[0]
    assert len(rows) == 8
    packings = {
        "fixed": [[rows[0:2], rows[2:4], rows[4:6], rows[6:8]]],
        "records": [[[row] for row in rows]],
        "budget": cuts(store, 1, 1100),
        "small budget": cuts(store, 1, 600),
        "two processes": cuts(store, 2, 1100),
    }
    assert len({len(parts[0]) for parts in packings.values()}) > 2
    wanted = gradients(model, store, step)
    assert len(wanted) > 20
    largest = max(float(value.abs().max()) for value in wanted.values())
    # The head's loss is in float32 whatever the model is: transformers casts the logits.
    for name, packing in packings.items():
        found = gradients(model, store, packing)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-6 * largest, msg=f"{name}: {key}")


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_adapters(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """Two processes, ZeRO-2: stopped behind a checkpoint and gone on with, against a run that nothing happens to."""
    options = [
        "train_cfg.max_tokens=1000", "train_cfg.loss_mean=global_batch", "train_dataloader.batch_size=4",
        "train_dataloader.sampler.per_device_batch_size=4", "default_hooks.logger.interval=1",
        "model.llm_lora.lora_dropout=0.0", "model.visual_encoder_lora.lora_dropout=0.0", "train_cfg.max_epochs=2",
        "default_hooks.checkpoint.interval=4", "optim_wrapper.optimizer.lr=5e-4",
    ]  # fmt: skip

    # Not warm (tests/warm): what is killed is then what trains.
    def go(out: Path, progress: Any, **more: Any) -> None:
        train("digits_moslora", processes=2, deepspeed="zero2", work_dir=out, cfg_options=options, progress=progress,
              environment={"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(tiny_data), "OMP_NUM_THREADS": "1",
                           "PYTHONPATH": ""},
              **more)  # fmt: skip

    losses: list[float] = []
    go(tmp_path / "whole", lambda step, total, loss: losses.append(loss))
    assert len(losses) == 12  # two epochs of six steps of eight records
    assert np.mean(losses[6:]) < np.mean(losses[:6]) - 0.05

    def stop(step: int, total: int, loss: float) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", stop)
    seen: list[int] = []
    go(tmp_path / "run", lambda step, *_: seen.append(step), resume="auto")
    assert seen[0] in (5, 9)
    assert seen[-1] == 12
    for part in ("llm", "visual_encoder"):
        wanted, found = (
            load_file(tmp_path / run / ADAPTERS / part / "adapter_model.safetensors") for run in ("whole", "run")
        )
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6, msg=key)
