"""AdaLoRA's budget falls as PEFT's own loop lets it, with mmengine's optimiser and with ZeRO-2 on two processes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper
from peft import AdaLoraConfig, PeftModel, get_peft_model
from places import ROOT
from small_llama import IDS, build_llama

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.adalora import AdaLoraBudget, require_budget

TESTS = ROOT / "tests"
STEPS, INIT, TARGET = 12, 6, 2
LAYERS = 4
CLIP = 0.05
"""A norm that the gradients are above in some steps, and below in others."""


def tuned(**schedule: Any) -> PeftModel:
    torch.manual_seed(3)
    settings = {"init_r": INIT, "target_r": TARGET, "total_step": STEPS, **schedule}
    config = AdaLoraConfig(target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **settings)
    return get_peft_model(build_llama(), config)


def loss(model: PeftModel, step: int, rows: slice = slice(None)) -> torch.Tensor:
    ids = (IDS[rows] + step) % 64
    made: torch.Tensor = model(input_ids=ids, labels=ids).loss
    return made


def runner(model: PeftModel, wrapper: Any, hook: AdaLoraBudget, done: int = 0, accumulation: int = 1) -> Any:
    return SimpleNamespace(
        model=SimpleNamespace(llm=model), optim_wrapper=wrapper, iter=done, max_iters=STEPS * accumulation,
        train_loop=SimpleNamespace(accumulation=accumulation), hooks=[hook],
    )  # fmt: skip


def by_hook(
    model: PeftModel, hook: AdaLoraBudget, start: int = 0, stop: int = STEPS, optimizer: Any = None, **options: Any
) -> Any:
    """mmengine's loop over some steps, from a state that is whole at `start`."""
    optimizer = optimizer or torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)
    wrapper = OptimWrapper(optimizer, **options)
    hook.before_train(runner(model, wrapper, hook, start))
    for step in range(start, stop):
        wrapper.update_params(loss(model, step))
    return optimizer


def as_peft_says(model: PeftModel) -> None:
    """The loop in the docstring of `AdaLoraModel.update_and_allocate`."""
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)
    for step in range(STEPS):
        loss(model, step).backward()
        optimizer.step()
        model.base_model.update_and_allocate(step + 1)
        optimizer.zero_grad()


def left(model: PeftModel) -> int:
    return sum(int((w != 0).sum()) for name, w in model.named_parameters() if "lora_E" in name)


def test_the_same_as_pefts_own_loop() -> None:
    ours, theirs = tuned(total_step=999), tuned(tinit=2, tfinal=3)
    by_hook(ours, AdaLoraBudget(warm_up=2 / STEPS, final=3 / STEPS))
    as_peft_says(theirs)
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    assert ours.peft_config["default"].rank_pattern == theirs.peft_config["default"].rank_pattern
    assert left(ours) == TARGET * LAYERS


def test_the_budget_of_each_step() -> None:
    """b(t) = target + (init - target) (1 - t / T)^3 of all layers, rounded down (Zhang et al. 2023, equation 11)."""
    model, hook = tuned(), AdaLoraBudget()
    optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2)
    wrapper = OptimWrapper(optimizer)
    hook.before_train(runner(model, wrapper, hook))
    found = []
    for step in range(STEPS):
        wrapper.update_params(loss(model, step))
        found.append(left(model))
    cubes = [(1 - step / STEPS) ** 3 for step in range(1, STEPS + 1)]
    assert found == [int((INIT - TARGET) * LAYERS * cube + TARGET * LAYERS) for cube in cubes]


def test_accumulated_micro_batches_are_one_step() -> None:
    model, hook = tuned(), AdaLoraBudget()
    wrapper = OptimWrapper(
        torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=1e-2), accumulative_counts=3
    )
    wrapper.initialize_count_status(model, 0, 3 * STEPS)
    hook.before_train(runner(model, wrapper, hook, accumulation=3))
    for step in range(3 * STEPS):
        wrapper.update_params(loss(model, step))
    assert (hook.done, model.peft_config["default"].total_step, left(model)) == (STEPS, STEPS, TARGET * LAYERS)


def test_a_checkpoint_keeps_the_importances(tmp_path: Path) -> None:
    whole, hook = tuned(), AdaLoraBudget()
    by_hook(whole, hook)
    begun, before = tuned(), AdaLoraBudget()
    optimizer = by_hook(begun, before, stop=5)
    assert before.keeps_state
    before.write_state(tmp_path)
    after = AdaLoraBudget()
    again = tuned()
    again.load_state_dict(copy.deepcopy(begun.state_dict()))
    other = torch.optim.AdamW([w for w in again.parameters() if w.requires_grad], lr=1e-2)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    after.tuner = again.base_model
    after.read_state(tmp_path)
    by_hook(again, after, start=5, optimizer=other)
    for (name, a), (_, b) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(ConfigError, match="begin anew"):
        after.read_state(tmp_path / "nothing")


def test_other_methods_are_left_alone_and_a_missing_hook_is_told() -> None:
    hook = AdaLoraBudget()
    plain = runner(build_llama(), None, hook)
    hook.before_train(plain)
    assert not hook.keeps_state
    plain.hooks = []
    require_budget(plain)
    alone = runner(tuned(), None, hook)
    alone.hooks = []
    with pytest.raises(ConfigError, match=r"training\.adalora\.AdaLoraBudget"):
        require_budget(alone)


@pytest.mark.parametrize("shares", [(0.6, 0.4), (-0.1, 0.0), (0.0, 1.0)])
def test_shares_that_leave_no_step_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="AdaLora"):
        AdaLoraBudget(*shares)


# Each of two processes with its own row of the batch, under ZeRO-2; the first writes what has become of the adapter.
ZERO2 = """
import sys
from types import SimpleNamespace
import deepspeed, torch
from torch import nn
from transformers.integrations.deepspeed import HfDeepSpeedConfig
from test_adalora import CLIP, STEPS, loss, runner, tuned
from moslora_xtuner.plugin import compile_nothing
from moslora_xtuner.training.adalora import AdaLoraBudget
compile_nothing()
deepspeed.init_distributed(dist_backend="gloo")
rank = torch.distributed.get_rank()
holder = nn.Module()
holder.llm = tuned()
optimizer = torch.optim.AdamW([w for w in holder.parameters() if w.requires_grad], lr=1e-2)
zero = {"stage": 2, "overlap_comm": False}
settings = {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": CLIP, "zero_optimization": zero}
settings |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
as_xtuner_does = HfDeepSpeedConfig(settings)
engine, *_ = deepspeed.initialize(model=holder, optimizer=optimizer, config=settings)
hook = AdaLoraBudget()
made = runner(holder.llm, None, hook)
made.model = SimpleNamespace(model=engine)
hook.before_train(made)
for step in range(STEPS):
    engine.backward(loss(holder.llm, step, slice(rank, rank + 1)))
    engine.step()
if rank == 0:
    kept = {n: w.detach() for n, w in holder.llm.named_parameters() if w.requires_grad}
    torch.save({"weights": kept, "left": holder.llm.peft_config["default"].rank_pattern}, sys.argv[1])
"""


@pytest.mark.slow
def test_zero2_on_two_processes_is_one_process(tmp_path: Path) -> None:
    """Gradients clipped, the ranks that are left and the weights are the same but for rounding.

    DeepSpeed's float32 copies follow the mask, or the next step would bring back what was taken.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    (tmp_path / "zero2.py").write_text(ZERO2)
    folders = os.pathsep.join(str(folder) for folder in (TESTS, TESTS / "training"))
    variables = {**os.environ, "PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "zero2.py"), str(tmp_path / "found.pt")],
        env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    plain = tuned()
    by_hook(plain, AdaLoraBudget(), clip_grad={"max_norm": CLIP})
    assert found["left"] == plain.peft_config["default"].rank_pattern
    assert sum(sum(kept) for kept in found["left"].values()) == TARGET * LAYERS
    trained = {name: weight for name, weight in plain.named_parameters() if weight.requires_grad}
    assert found["weights"].keys() == trained.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(found["weights"][name], weight.detach(), rtol=1e-3, atol=1e-5)
