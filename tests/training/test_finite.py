"""Numbers that are none are found and named, by what is wrong: the weights, the batch, the rate."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.finite import (
    BadLoss,
    Learning,
    SoundWeights,
    not_finite,
    nothing_to_learn,
    require_finite,
    told,
    unmoved,
)
from moslora_xtuner.training.unwrap import unwrapped


class Adapted(nn.Module):
    """What counts of a model here: a frozen part, an adapter, a projector."""

    def __init__(self) -> None:
        super().__init__()
        self.llm = nn.Linear(4, 4)
        self.llm.requires_grad_(requires_grad=False)
        self.projector = nn.Linear(4, 4)
        self.q = nn.ModuleDict({"lora_A": nn.ModuleDict({"default": nn.Linear(4, 2, bias=False)}),
                                "lora_B": nn.ModuleDict({"default": nn.Linear(2, 4, bias=False)})})  # fmt: skip
        nn.init.zeros_(self.q["lora_B"]["default"].weight)  # type: ignore[index]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["llm.weight", "projector.bias", "q.lora_A.default.weight"])
def test_a_weight_that_is_no_number_is_named_as_loaded(name: str, bad: float) -> None:
    model = Adapted()
    require_finite(model, "as loaded", trained=False)
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[1] = bad
    assert list(not_finite(model.named_parameters())) == [name]
    runner = SimpleNamespace(model=SimpleNamespace(module=model))  # in a wrapper
    with pytest.raises(TrainingError, match=f"as loaded, weights are not finite: {name}"):
        SoundWeights().before_train(runner)
    if name != "llm.weight":
        with pytest.raises(TrainingError, match="after the last step"):
            SoundWeights().after_train(runner)


def test_a_batch_is_named_and_kept(tmp_path: Path) -> None:
    batch = {"data": {"ids": ["a", "b"], "input_ids": torch.arange(4).view(2, 2), "labels": torch.zeros(2, 2)}}
    said = str(told(BadLoss(float("nan"), here=True), batch, 7, tmp_path))
    assert "the loss is nan in iteration 7 on process 0, records a, b: nothing was updated" in said
    assert "the batch is kept in bad_batch_7_0.pt" in said
    kept = torch.load(tmp_path / "bad_batch_7_0.pt", weights_only=True)
    assert kept["ids"] == ["a", "b"]
    assert torch.equal(kept["input_ids"], batch["data"]["input_ids"])


def test_with_max_tokens_the_records_of_all_micro_batches_are_named_and_kept(tmp_path: Path) -> None:
    step = [{"data": {"ids": ["a", "b"], "labels": torch.zeros(2, 2)}}, {"data": {"ids": ["c"]}}]
    assert "records a, b, c:" in str(told(BadLoss(float("nan"), here=True), step, 7, tmp_path))
    kept = torch.load(tmp_path / "bad_batch_7_0.pt", weights_only=True)
    assert [part["ids"] for part in kept] == [["a", "b"], ["c"]]


def test_nothing_to_learn_has_a_gradient_of_zero_everywhere() -> None:
    model = Adapted()
    nothing_to_learn(model).backward()
    for weight in model.parameters():
        assert (weight.grad is None) is not weight.requires_grad
        assert weight.grad is None or not bool(weight.grad.any())


def test_an_adapter_without_a_gradient_and_a_flat_loss_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    model: Any = Adapted()
    assert list(unmoved(model)) == ["q"]
    hook = Learning(steps=3)
    for _ in range(5):
        hook.after_train_iter(SimpleNamespace(model=model), 0, outputs={"loss": torch.tensor(2.0)})
    said = capsys.readouterr().err
    assert said.count("warning: ") == 2
    assert "these adapters are as they began, without a gradient: q" in said
    assert "the loss has been 2 for 3 iterations" in said
    with torch.no_grad():
        model.q["lora_B"]["default"].weight[0, 0] = 1
    hook = Learning(steps=2)
    for loss in (2.0, 1.9):
        hook.after_train_iter(SimpleNamespace(model=model), 0, outputs={"loss": torch.tensor(loss)})
    assert capsys.readouterr().err == ""


def test_the_model_in_its_wrappers() -> None:
    model = Adapted()
    assert unwrapped(SimpleNamespace(model=SimpleNamespace(module=model))) is model
    assert unwrapped(model) is model
