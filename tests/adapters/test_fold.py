"""Directories: saved, loaded, folded to a plain LoRA, refused by stock PEFT, and the authors' older form."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter, fold_state_dict
from moslora_xtuner.cli import run_app
from moslora_xtuner.errors import AdapterError

Logits = Callable[..., Tensor]
Trained = Callable[..., PeftModel]
Holds = Callable[[str, float, float], None]
Stock = Callable[[str], "subprocess.CompletedProcess[str]"]


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


CASES = [
    {"mixer_init": "orthogonal"},
    {"mixer": "butterfly"},
    {"mixer": "identity"},
    {"use_dora": True},
    {"mixer_init": "orthogonal", "freeze_mixer": True},
    {"lora_bias": True},
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["norm"], "bias": "all"},
    {"trainable_token_indices": [1, 5]},
    {"use_rslora": True, "rank_pattern": {"q_proj": 2, "down_proj": 6}},
]


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case))
def test_round_trip(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    logits: Logits,
    case: dict[str, Any],
    low_cpu_mem_usage: bool,
) -> None:
    model, path = saved(**case)
    again = PeftModel.from_pretrained(llama(), str(path), low_cpu_mem_usage=low_cpu_mem_usage)
    assert torch.equal(logits(again.eval()), logits(model))
    assert isinstance(again.peft_config["default"], MosLoraConfig)
    assert not any(p.requires_grad for n, p in again.named_parameters() if "lora_" in n)
    trainable = PeftModel.from_pretrained(llama(), str(path), is_trainable=True)
    names = {n for n, p in trainable.named_parameters() if p.requires_grad}
    assert names == {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case))
def test_folded_gives_the_same_logits_here(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    logits: Logits,
    tmp_path: Path,
    case: dict[str, Any],
) -> None:
    model, path = saved(**case)
    out = fold_adapter(path, tmp_path / "folded")
    assert sorted(p.name for p in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    plain = PeftModel.from_pretrained(llama(), str(out))
    assert type(plain.peft_config["default"]) is LoraConfig
    # float64 on both sides: what is left is the one rounding of B' to float32 (2^-24).
    assert gap(logits(plain.double()), logits(model.double())) < 1e-6


@pytest.mark.slow
def test_stock_peft_loads_the_folded_form_and_refuses_the_other(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    logits: Logits,
    stock_python: Stock,
    tmp_path: Path,
    holds: Holds,
) -> None:
    model, path = saved(mixer_init="orthogonal")
    places = {"base": tmp_path / "base", "logits": tmp_path / "logits.pt"}
    llama().save_pretrained(places["base"])
    folded = fold_adapter(path, tmp_path / "folded")
    script = """
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM
model = LlamaForCausalLM.from_pretrained({base!r})
try:
    PeftModel.from_pretrained(model, {adapter!r})
except KeyError as error:
    assert "MOSLORA" in str(error), error
else:
    raise SystemExit("stock PEFT took a MOSLORA directory")
assert not [name for name, _ in model.named_modules() if "lora" in name]
model = PeftModel.from_pretrained(model, {folded!r})
ids = torch.tensor([[1, 5, 9, 2, 7, 3, 11, 4], [3, 3, 8, 40, 22, 17, 6, 1]])
with torch.no_grad():
    torch.save(model(input_ids=ids).logits, {logits!r})
"""
    paths = {name: str(place) for name, place in places.items()}
    done = stock_python(script.format(adapter=str(path), folded=str(folded), **paths))
    assert done.returncode == 0, done.stderr
    holds(
        "logits of the folded form in a process with stock PEFT", gap(torch.load(places["logits"]), logits(model)), 1e-6
    )


@settings(max_examples=30, deadline=None)
@given(
    d2=st.integers(1, 20),
    half=st.integers(1, 6),
    mixer=st.sampled_from(["learned", "butterfly", "identity"]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_folding_rounds_once(d2: int, half: int, mixer: str, dtype: torch.dtype, seed: int) -> None:
    r, generator = 2 * half, torch.Generator().manual_seed(seed)
    b = torch.randn(d2, r, generator=generator).to(dtype)
    m = torch.randn(r, r, generator=generator).to(dtype)
    state = {"x.lora_A.weight": torch.ones(r, 3), "x.lora_B.weight": b}
    if mixer == "learned":
        state["x.lora_AB.weight"] = m
    folded = fold_state_dict(state, mixer)
    assert set(folded) == {"x.lora_A.weight", "x.lora_B.weight"}
    if mixer == "identity":
        assert torch.equal(folded["x.lora_B.weight"], b)
        return
    if mixer == "butterfly":
        halves = b.double()[:, :half] + b.double()[:, half:]
        wanted = torch.cat((halves, halves), dim=1)
    else:
        wanted = (b.double().unsqueeze(2) * m.double()).sum(dim=1)
    found = folded["x.lora_B.weight"]
    assert found.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    bound = (b.double().abs() @ m.double().abs()).max() if mixer == "learned" else wanted.abs().max()
    precision = 1e-15 if found.dtype is torch.float64 else 2**-24
    assert float((found.double() - wanted).abs().max()) <= precision * float(bound) + 1e-14


def as_the_authors_saved_it(path: Path, *, pickle: bool = False, flag: bool | None = True) -> None:
    """Rewrite a directory to the form of the authors' PEFT fork."""
    file = path / "adapter_config.json"
    config = json.loads(file.read_text())
    kept = ("r", "lora_alpha", "target_modules", "lora_dropout", "bias", "task_type", "fan_in_fan_out")
    old = {k: config[k] for k in kept} | {"peft_type": "LORA", "enable_lora": None, "merge_weights": False}
    if flag is not None:
        old["lora_use_mixer"] = flag
    file.write_text(json.dumps(old))
    if pickle:
        weights = path / "adapter_model.safetensors"
        torch.save(load_file(weights), path / "adapter_model.bin")
        weights.unlink()


@pytest.mark.parametrize("pickle", [False, True])
@pytest.mark.filterwarnings("error:Unexpected keyword arguments", "error:the installed peft")
def test_the_authors_directories_load_and_fold(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    logits: Logits,
    tmp_path: Path,
    pickle: bool,
) -> None:
    model, path = saved()
    as_the_authors_saved_it(path, pickle=pickle)
    again = PeftModel.from_pretrained(llama(), str(path))
    assert torch.equal(logits(again.eval()), logits(model))
    assert PeftConfig.from_pretrained(str(path)).mixer == "learned"
    plain = PeftModel.from_pretrained(llama(), str(fold_adapter(path, tmp_path / "folded")))
    assert gap(logits(plain.double()), logits(model.double())) < 1e-6


@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")
@pytest.mark.parametrize("flag", [False, None])
def test_mixers_without_the_flag_are_never_dropped(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    tmp_path: Path,
    flag: bool | None,
) -> None:
    _, path = saved()
    as_the_authors_saved_it(path, flag=flag)
    with pytest.raises(AdapterError, match="no place for"):
        PeftModel.from_pretrained(llama(), str(path))
    with pytest.raises(AdapterError, match="lora_use_mixer"):
        fold_adapter(path, tmp_path / "folded")


def test_a_plain_lora_comes_out_as_it_went_in(llama: Callable[..., nn.Module], tmp_path: Path) -> None:
    model = get_peft_model(llama(), LoraConfig(r=4, target_modules=["q_proj"]))
    model.save_pretrained(str(tmp_path / "plain"))
    out = fold_adapter(tmp_path / "plain", tmp_path / "out")
    before = load_file(tmp_path / "plain" / "adapter_model.safetensors")
    after = load_file(out / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert LoraConfig.from_pretrained(str(out)) == LoraConfig.from_pretrained(str(tmp_path / "plain"))


def test_the_command_folds_an_adapters_directory(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    logits: Callable[[nn.Module], Tensor],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, folder = saved(mixer_init="orthogonal")
    assert run_app(["export", str(folder), "-o", str(tmp_path / "lora"), "--format", "lora"]) == 0
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    plain = PeftModel.from_pretrained(llama(), str(tmp_path / "lora"))
    assert torch.allclose(logits(plain), logits(model), atol=1e-6)
    assert run_app(["export", str(folder), "-o", str(tmp_path / "hf")]) == 2
    assert "--format lora" in capsys.readouterr().err
