"""A resumed loop trains on the batches that an uninterrupted one had, and reads none of those before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from mmengine.hooks import DistSamplerSeedHook
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from xtuner.dataset.samplers import LengthGroupedSampler as XTuners

from moslora_xtuner.data.sampler import LengthGroupedSampler
from moslora_xtuner.training.loop import LOSS_DIVISOR, TrainLoop
from moslora_xtuner.training.resume import can_skip

ROWS, BATCH, STEPS = 21, 2, 29
EPOCH = 11  # batches: 21 rows are 10 and a half
AHEAD = 4  # batches that two workers read before they are asked for, two each
Trained = list[tuple[list[int], float | None]]
"""Of each batch its rows and the divisor of its loss."""


class Rows:
    """Rows without content that note in a file which of them were asked for, by whichever process."""

    modality_length = [1 + row % 5 for row in range(ROWS)]  # noqa: RUF012

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> int:
        with self.file.open("a") as notes:
            notes.write(f"{row}\n")
        return row

    def asked(self) -> list[int]:
        return [int(row) for row in self.file.read_text().split()]


def collate(rows: list[int]) -> dict[str, Any]:
    """A row has as many supervised tokens as its length says."""
    labels = torch.full((len(rows), 7), -100)
    for place, row in enumerate(rows):
        labels[place, 1 : 1 + Rows.modality_length[row]] = 5
    return {"data": {"rows": rows, "labels": labels}}


class Runner(SimpleNamespace):
    """What the loop needs of mmengine's runner: with a model that notes its batches, and the hook of the recipes."""

    def __init__(self, accumulation: int) -> None:
        super().__init__(
            cfg=SimpleNamespace(optim_wrapper={"accumulative_counts": accumulation}),
            optim_wrapper=None, param_schedulers=None, val_loop=None, visualizer=SimpleNamespace(), epoch=0,
            trained=[], hooks=[],
        )  # fmt: skip
        self.model = SimpleNamespace(train=lambda: None, train_step=self.note)

    def note(self, batch: dict[str, Any], optim_wrapper: Any) -> None:
        divisor = batch["data"].get(LOSS_DIVISOR)
        self.trained.append((batch["data"]["rows"], None if divisor is None else float(divisor)))

    def call_hook(self, name: str, **_: Any) -> None:
        if name == "before_train_epoch":
            DistSamplerSeedHook().before_train_epoch(self)


@pytest.fixture(autouse=True)
def _no_waiting() -> Iterator[None]:
    """mmengine sleeps two seconds between epochs, where the loader has processes."""
    with patch("mmengine.runner.loops.time.sleep"):
        yield


def train(
    file: Path, sampler: Any, done: int = 0, accumulation: int = 1, loss_mean: Any = "micro_batch",
    round_up: bool = True, **loader: Any,
) -> tuple[Trained, list[int]]:  # fmt: skip
    """What was trained on after `done` batches, and the rows that were asked for."""
    rows = Rows(file)
    order = sampler(rows, BATCH, length_property="modality_length", seed=3, round_up=round_up)
    batches = DataLoader(rows, BATCH, sampler=order, collate_fn=collate, **loader)  # type: ignore[arg-type, var-annotated]
    assert len(batches) == EPOCH
    runner = Runner(accumulation)
    loop = TrainLoop(runner, batches, loss_mean=loss_mean, max_iters=STEPS)
    runner.train_loop = loop
    loop._iter = done  # as mmengine's runner does when it resumes
    loop.run()
    # Workers found by the garbage collector, in the circle of loop and runner, may miss the word that they can end.
    loop.dataloader_iterator = batches._iterator = None
    return runner.trained, rows.asked()


@pytest.mark.parametrize("round_up", [True, False])
@pytest.mark.parametrize(
    ("loss_mean", "accumulation"), [("micro_batch", 1), ("micro_batch", 3), ("global_batch", 1), ("global_batch", 3)]
)
def test_goes_on_where_it_was(tmp_path: Path, loss_mean: str, accumulation: int, round_up: bool) -> None:
    """At every step, against XTuner's sampler in an uninterrupted run; the rows asked for are the remaining ones."""
    options = {"loss_mean": loss_mean, "accumulation": accumulation, "round_up": round_up}
    whole, _ = train(tmp_path / "whole", XTuners, **options)
    assert len(whole) == STEPS
    for done in range(STEPS + 1):
        trained, asked = train(tmp_path / str(done), LengthGroupedSampler, done, **options)
        # The gradients of a step's beginning are in no checkpoint: it is done again, from its first micro-batch.
        first = done if done == STEPS else done - done % accumulation
        assert trained == whole[first:]
        assert asked == [row for rows, _ in whole[first:] for row in rows]


@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("done", [1, 5, 10, 11, 12, 22, 23, 28])
def test_goes_on_with_workers(tmp_path: Path, done: int, persistent: bool) -> None:
    options = {"loss_mean": "global_batch", "accumulation": 2}
    whole, _ = train(tmp_path / "whole", XTuners, **options)
    loader = {"num_workers": 2, "prefetch_factor": 2, "persistent_workers": persistent}
    trained, asked = train(tmp_path / "resumed", LengthGroupedSampler, done, **options, **loader)
    assert trained == whole[done - done % 2 :]
    remaining = Counter(row for rows, _ in whole[done - done % 2 :] for row in rows)
    assert not remaining - Counter(asked)
    # mmengine makes the first workers with the loop, before it knows of a resume: they read ahead, and so do the last.
    assert (Counter(asked) - remaining).total() <= 2 * AHEAD * BATCH


def test_a_sampler_that_cannot_skip_is_read_up_to_there(tmp_path: Path) -> None:
    whole, asked = train(tmp_path / "whole", XTuners)
    trained, again = train(tmp_path / "resumed", XTuners, 14)
    assert trained == whole[14:]
    assert again == asked


def test_needs_a_sampler_that_skips_and_batches_of_one_size(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows")
    ours = LengthGroupedSampler(rows, BATCH, seed=3)
    assert can_skip(DataLoader(rows, BATCH, sampler=ours))  # type: ignore[arg-type]
    assert not can_skip(DataLoader(rows, BATCH, sampler=SequentialSampler(rows)))  # type: ignore[arg-type]
    assert not can_skip(DataLoader(rows, batch_sampler=BatchSampler(ours, BATCH, drop_last=False)))  # type: ignore[arg-type]


def test_rates_go_back_with_a_step_that_is_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = Rows(tmp_path / "rows")
    batches = DataLoader(rows, BATCH, sampler=LengthGroupedSampler(rows, BATCH), collate_fn=collate)  # type: ignore[arg-type, var-annotated]
    runner = Runner(4)
    scheduler = SimpleNamespace(last_step=10, _global_step=11, step=lambda: None)
    runner.param_schedulers = [scheduler]
    runner.train_loop = made = TrainLoop(runner, batches, max_iters=12)
    made._iter = 10
    made.run()
    assert (scheduler.last_step, scheduler._global_step) == (8, 9)
    assert len(runner.trained) == 4
    assert "in the middle of a step: from iteration 8 on it is done again" in capsys.readouterr().err
