"""One plain LoRA of the exported LLaVA: its layers' names, an InternLM2 as a LLaMA, different ranks and scales."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import standins
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.errors import ExportError
from moslora_xtuner.export.lora import pattern, write_lora
from moslora_xtuner.llm.load import load_llm

EVERY = ("wqkv", "wo", "w2", "q_proj", "down_proj")
IDS = torch.tensor([[1, 5, 9, 2, 7, 3]])


def tuned(base: Path, folder: Path, config: Any) -> PeftModel:
    torch.manual_seed(0)
    model = get_peft_model(load_llm(base).eval(), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(0, 0.1)
    model.save_pretrained(str(folder))
    return model.eval()


class Llava(nn.Module):
    """Where the language model stands in a LLaVA."""

    def __init__(self, llm: Any) -> None:
        super().__init__()
        self.language_model = llm


@torch.no_grad()
def in_stock_peft(llm: Any, adapter: Path) -> torch.Tensor:
    """Stock LoRA on a LLaMA inside another model."""
    config = LoraConfig.from_pretrained(str(adapter))
    config.task_type = None
    holder = Llava(llm)
    model = get_peft_model(holder, config).eval()
    found = model.load_adapter(str(adapter), "default")
    assert not found.unexpected_keys
    assert not [name for name in found.missing_keys if "lora" in name]
    logits: torch.Tensor = holder.language_model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize("family", ["llama", "internlm2"])
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8},
        {"r": 4, "lora_alpha": 8, "use_rslora": True},
        {"r": 4, "lora_alpha": 8, "rank_pattern": {"w2": 6, "down_proj": 6}, "alpha_pattern": {"wo": 3, "q_proj": 3}},
        # All alike, and none as the config says for the rest, of which there is nothing.
        {"r": 4, "lora_alpha": 8, "rank_pattern": dict.fromkeys(EVERY, 6), "alpha_pattern": dict.fromkeys(EVERY, 9)},
    ],
    ids=["plain", "rslora", "patterns", "patterns of all"],
)
def test_it_computes_what_was_tuned(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    if family == "llama":
        base, targets = standins.make_llama3(tmp_path / "base"), ["q_proj", "down_proj"]
    else:
        base, targets = standins.make_internlm2(tmp_path / "base"), ["wqkv", "wo", "w2"]
    kept = {k: {n: v for n, v in s.items() if n in targets} if isinstance(s, dict) else s for k, s in settings.items()}
    model = tuned(base, tmp_path / "adapter", MosLoraConfig(target_modules=targets, task_type="CAUSAL_LM", **kept))
    rank = write_lora(tmp_path / "out", tmp_path / "adapter", json.loads((base / "config.json").read_text()))
    llm = load_llm(base).eval()
    with torch.no_grad():
        wanted = model(input_ids=IDS).logits
        plain = llm(input_ids=IDS).logits
    found = in_stock_peft(standins.as_llama(llm) if family == "internlm2" else llm, tmp_path / "out")
    assert (wanted - plain).abs().max() > 1e-2
    assert (found - wanted).abs().max() < 2e-5 * wanted.abs().max()
    ranks = {len(w) for n, w in load_file(tmp_path / "out" / "adapter_model.safetensors").items() if "lora_A" in n}
    assert ranks == {rank}  # one rank, which engines are told


def test_its_pattern_means_these_layers_in_every_release() -> None:
    names = [f"language_model.model.layers.{n}.self_attn.{p}_proj" for n in (0, 11) for p in "qv"]
    found = pattern(names)
    for name in names:
        newer = name.replace("language_model.model.", "model.language_model.")
        assert re.fullmatch(found, name)
        assert re.fullmatch(found, newer)
    for other in (
        "language_model.model.layers.1.self_attn.q_proj",
        "language_model.model.layers.0.self_attn.k_proj",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj",
        "language_model.lm_head",
    ):
        assert not re.fullmatch(found, other)
    both = pattern([*names, "vision_tower.vision_model.encoder.layers.0.mlp.fc1"])
    assert re.fullmatch(both, "vision_tower.vision_model.encoder.layers.0.mlp.fc1")
    assert re.fullmatch(both, "model.vision_tower.encoder.layers.0.mlp.fc1")
    assert not re.fullmatch(both, "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj")
    with pytest.raises(ExportError, match="outside the blocks"):
        pattern(["language_model.lm_head"])


def test_what_no_engine_reads_is_refused(tmp_path: Path) -> None:
    base = standins.make_llama3(tmp_path / "base")
    tuned(base, tmp_path / "adapter", LoraConfig(r=4, target_modules=["q_proj"], bias="lora_only", lora_bias=True))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    assert any("bias" in name for name in load_file(file))
    with pytest.raises(ExportError, match="use --format hf"):
        write_lora(tmp_path / "out", tmp_path / "adapter", {})
    assert not (tmp_path / "out").exists()
