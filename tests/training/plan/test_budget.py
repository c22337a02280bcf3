"""What a plan says of a budget of tokens: its micro-batches, steps and memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from moslora_xtuner.data.sampler import LengthGroupedSampler
from moslora_xtuner.data.tokens.store import Table
from moslora_xtuner.training.plan.outcome import Plan, text

Make = Callable[..., Plan]
MOSLORA = "llava_llama3_moslora"


def options(max_tokens: int, *more: str) -> list[str]:
    return [
        f"train_cfg.max_tokens={max_tokens}", "train_cfg.loss_mean=global_batch",
        "train_dataloader.sampler.per_device_batch_size=8", *more,
    ]  # fmt: skip


@pytest.fixture
def longest(llava_environment: dict[str, str], make: Make) -> int:
    plan = make(MOSLORA)
    assert plan.store is not None
    return plan.store.longest


def test_counts_what_the_training_will_cut(make: Make, llava_environment: dict[str, str], longest: int) -> None:
    """Steps by hand; padding against the sampler's own rows, two processes' micro-batches apart."""
    plan = make(MOSLORA, processes=2, options=options(8 * longest))
    assert plan.problems == []
    said = " ".join(text(plan, 400).split())
    assert "8 x 2 processes = 16 records a step" in said
    assert "8 steps, 2 of them warm-up" in said  # 120 records in sixteens
    # Everything fits in one micro-batch a process.
    (found,) = re.findall(r"1 to 1 of them a step on each process, 1.00 on average; ([\d.]+) % of their places", said)
    assert float(found) < 60
    assert f"at {8 * longest:,} tokens of the longest records" in said


def test_one_record_each_has_no_padding(make: Make, longest: int) -> None:
    """A budget of the longest record: where all are of about its length, each is alone, 16 a step on one process."""
    plan = make(MOSLORA, processes=1, options=options(longest))
    said = " ".join(text(plan, 400).split())
    assert plan.problems == []
    (least, most) = re.findall(rf"at most {longest:,} tokens a micro-batch: (\d+) to (\d+) of them", said)[0]
    assert 1 <= int(least) <= int(most) <= 8


def test_the_padding_by_hand(make: Make, llava_environment: dict[str, str], longest: int) -> None:
    """With one micro-batch a step each costs its longest record, eight times."""
    plan = make(MOSLORA, processes=1, options=options(8 * longest))
    assert plan.store is not None
    table = Table(Path(llava_environment["LLAMA3_STORE"]) / "records.arrow")
    patches = plan.setting.image_tokens
    places = table.column("length") + table.column("image_count") * (patches - 1)
    order = LengthGroupedSampler(plan.store, 8, "modality_lengths", seed=1024).order(0)
    steps = places[order].reshape(-1, 8)
    padding = 1 - steps.sum() / (8 * steps.max(axis=1)).sum()
    assert f"{100 * padding:.1f} % of their places are padding" in " ".join(text(plan, 400).split())


def test_memory_follows_the_budget(make: Make, longest: int) -> None:
    """A budget of eight of the longest records needs what a batch of eight needs, pictures apart."""
    fixed = make(MOSLORA, gpus=1, gpu_memory=80)
    budget = make(MOSLORA, gpus=1, gpu_memory=80, options=options(8 * longest))
    half = make(MOSLORA, gpus=1, gpu_memory=80, options=options(4 * longest))
    assert fixed.memory is not None
    assert budget.memory is not None
    assert half.memory is not None
    assert budget.memory.head == fixed.memory.head
    assert half.memory.head == fixed.memory.head / 2
    assert budget.memory.total == pytest.approx(fixed.memory.total, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["train_cfg.loss_mean=micro_batch"], "set train_cfg.loss_mean to global_batch"),
        (["train_dataloader.batch_size=4"], "a GPU's share of a step is 8 records"),
        (["train_cfg.max_tokens=20"], "the longest record has"),
    ],
)
def test_what_cannot_run(make: Make, longest: int, changes: list[str], said: str) -> None:
    plan = make(MOSLORA, options=options(8 * longest, *changes))
    assert [step.title for step in plan.steps if step.problems] == ["schedule"]
    assert any(said in problem for problem in plan.problems)


def test_the_key_is_known(make: Make, longest: int) -> None:
    plan = make(MOSLORA, options=options(8 * longest, "train_cfg.max_token=5"))
    assert "train_cfg.max_token: TrainLoop has no 'max_token'; did you mean max_tokens?" in plan.problems
