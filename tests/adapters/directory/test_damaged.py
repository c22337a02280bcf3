"""Directories that are damaged, do not fit, or may not be written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from moslora_xtuner.adapters import fold_adapter
from moslora_xtuner.errors import AdapterError, OutputError

Logits = Callable[..., Tensor]
Trained = Callable[..., PeftModel]


def edit(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    state = load_file(path / "adapter_model.safetensors")
    change(state)
    save_file(state, path / "adapter_model.safetensors")


NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_AB.weight"


@pytest.mark.parametrize(
    ("change", "when_loading", "when_folding"),
    [
        (lambda s: s.pop(NAME), r"missing .*q_proj\.lora_AB", r"q_proj has no mixer"),
        (lambda s: s.update({NAME: torch.eye(3)}), r"\(3, 3\), not \(4, 4\)", r"\(3, 3\), not \(4, 4\)"),
        (
            lambda s: s.update({NAME.replace("q_proj", "z"): torch.eye(4)}),
            r"no place for model\.layers\.0\.self_attn\.z",
            r"self_attn\.z has no lora_A",
        ),
        (lambda s: s[NAME].fill_(float("nan")), "not finite", "not finite"),
    ],
    ids=["missing", "shape", "left over", "nan"],
)
def test_damaged_directories(
    saved: Callable[..., tuple[PeftModel, Path]],
    llama: Callable[..., nn.Module],
    tmp_path: Path,
    change: Callable[[dict[str, Tensor]], None],
    when_loading: str,
    when_folding: str,
) -> None:
    _, path = saved()
    edit(path, change)
    with pytest.raises(AdapterError, match=when_loading):
        PeftModel.from_pretrained(llama(), str(path))
    with pytest.raises(AdapterError, match=when_folding):
        fold_adapter(path, tmp_path / "folded")
    assert not (tmp_path / "folded").exists()


def rewrite(path: Path, **fields: object) -> None:
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, **fields}))


@pytest.mark.parametrize(
    ("fields", "model", "words"),
    [
        (
            {"r": 6},
            {},
            r"gate_proj\.lora_A\S* is \(4, 32\), not \(6, 32\).*gate_proj\.lora_AB\S* is \(4, 4\), not \(6, 6\)",
        ),
        ({"rank_pattern": {"v_proj": 2}}, {}, r"v_proj\.lora_AB\S* is \(4, 4\), not \(2, 2\)"),
        ({}, {"hidden_size": 64}, r"lora_A\S* is \(4, 32\), not \(4, 64\)"),
        ({"target_modules": ["q_proj", "lm_head"]}, {}, r"missing lm_head\.lora_A"),
        ({}, {"num_hidden_layers": 1}, r"no place for model\.layers\.1\."),
    ],
    ids=["rank", "pattern", "width", "targets", "layers"],
)
def test_what_does_not_fit_is_told_before_a_layer_is_made(
    saved: Callable[..., tuple[PeftModel, Path]], fields: dict[str, object], model: dict[str, int], words: str
) -> None:
    loaded, path = saved()
    rewrite(path, **fields)
    config = {**loaded.get_base_model().config.to_dict(), **model}
    base = LlamaForCausalLM(LlamaConfig(**config))
    before = {name: (type(m), m.training) for name, m in base.named_modules()}
    wanted = {name: p.requires_grad for name, p in base.named_parameters()}
    with pytest.raises(AdapterError, match=words):
        PeftModel.from_pretrained(base, str(path))
    assert {name: (type(m), m.training) for name, m in base.named_modules()} == before
    assert {name: p.requires_grad for name, p in base.named_parameters()} == wanted


def test_a_second_adapter_that_does_not_fit_is_not_added(
    saved: Callable[..., tuple[PeftModel, Path]], trained: Trained, logits: Logits
) -> None:
    _, path = saved()
    rewrite(path, r=6)
    model = trained(seed=5)
    wanted = logits(model)
    with pytest.raises(AdapterError, match=r"not \(6, 32\)"):
        model.load_adapter(str(path), "second")
    assert list(model.peft_config) == ["default"]
    assert torch.equal(logits(model), wanted)


def test_a_misfit_leaves_the_loaded_weights_alone(trained: Trained, logits: Logits) -> None:
    model, other = trained(), trained(seed=9, r=6)
    wanted = logits(model)
    with pytest.raises(AdapterError, match=r"not \(4, 4\)"):
        model.load_state_dict(other.state_dict(), strict=False)
    assert torch.equal(logits(model), wanted)


def test_a_partial_state_without_adapters_still_loads(trained: Trained, logits: Logits) -> None:
    model = trained()
    wanted = logits(model)
    model.load_state_dict({"base_model.model.lm_head.weight": model.base_model.model.lm_head.weight}, strict=False)
    assert torch.equal(logits(model), wanted)


def test_where_the_output_may_not_go(saved: Callable[..., tuple[PeftModel, Path]], tmp_path: Path) -> None:
    _, path = saved()
    out = tmp_path / "out"
    out.mkdir()
    fold_adapter(path, out)
    with pytest.raises(OutputError, match="exists already"):
        fold_adapter(path, out)
    fold_adapter(path, out, overwrite=True)
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        fold_adapter(path, out, overwrite=True)
    assert (out / "thesis.tex").read_text() == "mine"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        fold_adapter(path, tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="cannot write"):
        fold_adapter(path, tmp_path / "file" / "below")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "file", "out"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no adapter_config"),
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        ('{"peft_type": "LOHA"}', "LOHA"),
    ],
)
def test_what_is_no_adapter(
    saved: Callable[..., tuple[PeftModel, Path]], tmp_path: Path, content: str | None, words: str
) -> None:
    _, path = saved()
    file = path / "adapter_config.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(AdapterError, match=words):
        fold_adapter(path, tmp_path / "out")


def test_missing_and_damaged_weights(saved: Callable[..., tuple[PeftModel, Path]], tmp_path: Path) -> None:
    _, path = saved()
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(AdapterError, match="cannot be read"):
        fold_adapter(path, tmp_path / "out")
    weights.unlink()
    with pytest.raises(AdapterError, match="has neither"):
        fold_adapter(path, tmp_path / "out")


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing_half_done(
    saved: Callable[..., tuple[PeftModel, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    _, path = saved()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, fails, full)
        with pytest.raises(OutputError, match="No space left"):
            fold_adapter(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
    fold_adapter(path, tmp_path / "out")
