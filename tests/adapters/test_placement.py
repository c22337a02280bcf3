"""Tools that hold a module by its parameters: what they read is what is there, and what they write stays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import fold_adapter

Logits = Callable[..., Tensor]
Move = Callable[[nn.Module, Path], object]

KINDS: dict[str, dict[str, Any]] = {
    "learned": {"mixer_init": "orthogonal"},
    "frozen": {"mixer_init": "orthogonal", "freeze_mixer": True},
    "butterfly": {"mixer": "butterfly"},
    "dora": {"mixer_init": "orthogonal", "use_dora": True},
}


def assign_again(model: nn.Module, _: Path) -> None:
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(getattr(module, name).data.clone(), parameter.requires_grad))


def write_in_place(model: nn.Module, _: Path) -> None:
    for module in model.modules():
        for name, _parameter in module.named_parameters(recurse=False):
            value = getattr(module, name).data.clone()
            getattr(module, name).data.zero_()
            getattr(module, name).data.copy_(value)


def load_state(model: nn.Module, _: Path) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)


def set_tensors(model: nn.Module, _: Path) -> None:
    accelerate = pytest.importorskip("accelerate.utils", reason="accelerate is not installed")
    for name, parameter in list(model.named_parameters()):
        accelerate.set_module_tensor_to_device(model, name, "meta")
        accelerate.set_module_tensor_to_device(model, name, "cpu", value=parameter.data)


def offload_cpu(model: nn.Module, _: Path) -> None:
    pytest.importorskip("accelerate", reason="accelerate is not installed").cpu_offload(model, torch.device("cpu"))


def offload_disk(model: nn.Module, folder: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerate.disk_offload(model, str(folder / "offload"), torch.device("cpu"))


def dispatch(model: nn.Module, folder: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    layers = "base_model.model.model.layers"
    device_map = {"base_model.model.model.embed_tokens": "cpu", f"{layers}.0": "disk", f"{layers}.1": "cpu"}
    device_map |= {"base_model.model.model.norm": "cpu", "base_model.model.model.rotary_emb": "cpu"}
    device_map |= {"base_model.model.lm_head": "cpu"}
    accelerate.dispatch_model(
        model, device_map, main_device="cpu", offload_dir=str(folder / "offload"), force_hooks=True
    )


MOVES: list[Move] = [
    assign_again,
    write_in_place,
    load_state,
    set_tensors,
    offload_cpu,
    offload_disk,
    dispatch,
]


# DoRA reads the base's weight past accelerate's hooks, in stock PEFT too, and finds an offloaded one on "meta".
CASES = [(move, kind) for move in MOVES for kind in KINDS if kind != "dora" or move in MOVES[:4]]


@pytest.mark.parametrize(("move", "kind"), CASES)
def test_moved_or_written_back_the_model_computes_the_same(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    logits: Logits,
    tmp_path: Path,
    move: Move,
    kind: str,
) -> None:
    model, folder = saved(**KINDS[kind])
    wanted = logits(model)
    folded = PeftModel.from_pretrained(llama(), str(fold_adapter(folder, tmp_path / "folded")))
    move(folded, tmp_path / "stock")  # stock LoRA bears it on this machine
    move(model, tmp_path)
    assert torch.equal(logits(model), wanted)
    assert float((logits(folded) - wanted).abs().max() / wanted.abs().max()) < 1e-6


@pytest.mark.parametrize("kind", ["learned", "frozen", "butterfly"])
def test_lora_b_is_b_for_whoever_reads_and_writes_it(
    trained: Callable[..., PeftModel], logits: Logits, kind: str
) -> None:
    model = trained(**KINDS[kind])
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    lora_b = layer.lora_B["default"]
    assert type(lora_b) is nn.Linear
    assert (
        lora_b.weight
        is dict(model.named_parameters())["base_model.model.model.layers.0.mlp.down_proj.lora_B.default.weight"]
    )
    delta = layer.get_delta_weight("default").detach()
    a, b = layer.lora_A["default"].weight.double(), lora_b.weight.double()
    m = layer.lora_AB["default"].matrix(torch.float64, torch.device("cpu"))
    assert float((delta - layer.scaling["default"] * b @ m @ a).detach().abs().max()) < 1e-6
    lora_b.weight.data.mul_(2)
    assert torch.allclose(layer.get_delta_weight("default"), 2 * delta, rtol=1e-6)
    x = torch.randn(3, delta.shape[1])
    wanted = layer.base_layer(x).double() + 2 * x.double() @ delta.double().T
    assert float((layer(x) - wanted).detach().abs().max()) < 1e-5
    assert lora_b.weight.grad is None


def test_stock_lora_bears_the_same_moves(llama: Callable[..., nn.Module], logits: Logits, tmp_path: Path) -> None:
    for number, move in enumerate(MOVES):
        model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj", "down_proj"])).eval()
        wanted = logits(model)
        move(model, tmp_path / str(number))
        assert torch.equal(logits(model), wanted)
