"""The parts of `scripts/real_size.py`: a cut checkpoint, products in float32, shards, the paper's counts, memory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from bench.real_size.checkpoints import PUBLISHED, _shards, write_index
from bench.real_size.clock import Float32Products
from bench.real_size.cut import cut
from bench.real_size.memory import watch
from bench.real_size.runs import by_paper
from transformers import LlamaConfig, LlamaForCausalLM

from moslora_xtuner.llm.load import load_llama


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Four layers in several shards."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "whole", max_shard_size="40KB")
    return tmp_path / "whole"


def test_a_cut_checkpoint_is_whole_for_its_config(whole: Path) -> None:
    """No weight is missing or left over, and they are those of the first layers."""
    model, said = load_llama(str(cut(whole, 2)), output_loading_info=True)
    assert {key: len(names) for key, names in said.items()} == dict.fromkeys(said, 0)
    assert model.config.num_hidden_layers == 2
    full = load_llama(str(whole)).state_dict()
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, full[name]), name


def test_all_layers_are_the_checkpoint_itself(whole: Path) -> None:
    assert cut(whole, 4) == whole
    assert cut(whole, 9) == whole


@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_those_of_float32_rounded_once(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.real_size.clock.BLOCK", 1000)
    torch.manual_seed(0)
    a, b = torch.randn(5, 96).bfloat16(), torch.randn(96, 40).bfloat16()
    b = b.t().contiguous().t() if transposed else b
    with Float32Products():
        product, c = a @ b, torch.addmm(torch.ones(40).bfloat16(), a, b)
    torch.testing.assert_close(product, (a.float() @ b.float()).bfloat16(), rtol=2**-7, atol=2**-7)
    torch.testing.assert_close(c, (a.float() @ b.float() + 1).bfloat16(), rtol=2**-7, atol=2**-6)


def test_shards_stay_below_the_limit(tmp_path: Path) -> None:
    shapes = {"a": (10,), "b": (10, 3), "c": (5,), "d": (5, 2)}
    assert list(_shards(shapes, 60)) == [["a"], ["b"], ["c", "d"]]  # 20, 60, 10 and 20 bytes
    write_index(tmp_path, shapes, {"a": "1", "b": "2"})
    assert json.loads((tmp_path / "model.safetensors.index.json").read_text())["metadata"] == {"total_size": 80}


def test_the_papers_counts_by_hand() -> None:
    """LLaMA-3 8B has 5,242,880 weights a layer at rank 64 and 7 mixers; CLIP's last of 24 layers has no adapter."""
    assert by_paper("llava_llama3_moslora", 2) == {
        "llm": 2 * (5_242_880 + 7 * 64 * 64),
        "visual_encoder": 23 * (64 * (8 * 1024 + 2 * 5120) + 6 * 64 * 64),
    }
    assert set(PUBLISHED) == {"llama3", "internlm2"}


def test_memory_is_what_the_command_held(tmp_path: Path) -> None:
    held = "import time; a = bytearray(b'x') * (200 << 20); time.sleep(1)"
    seen = watch([sys.executable, "-c", held], dict(os.environ), tmp_path / "log")
    assert seen.status == 0
    assert 200 << 20 < max(s.own for s in seen.tree) < 260 << 20
