"""A checkpoint's tensors from every layout of files, one at a time; and what tells two checkpoints apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.llm.weights import Weights, content_of


@pytest.fixture(scope="module", params=["one file", "shards", "bin", "bin shards"])
def checkpoint(request: pytest.FixtureRequest, llama3: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "llm"
    safe = not str(request.param).startswith("bin")
    size = "200KB" if "shards" in str(request.param) else "5GB"
    LlamaForCausalLM.from_pretrained(llama3).save_pretrained(folder, safe_serialization=safe, max_shard_size=size)
    return folder


def test_every_tensor_and_its_rows(checkpoint: Path, llama3: Path) -> None:
    wanted, found = load_file(llama3 / "model.safetensors"), Weights(checkpoint)
    assert set(found) >= set(wanted)
    places = torch.tensor([3, 0, 3, 7])
    for name, tensor in wanted.items():
        assert torch.equal(found.get(name), tensor)
        assert found.shape(name) == tuple(tensor.shape)
        if tensor.ndim == 2:
            assert torch.equal(found.rows(name, places), tensor[places])
            assert torch.equal(found.rows(name, slice(2, 5)), tensor[2:5])
    with pytest.raises(ConfigError, match="has no weight model"):
        found.get("model.nothing")


def test_content_is_the_same_however_it_is_cut_into_files(checkpoint: Path, llama3: Path) -> None:
    assert content_of(checkpoint)["weights"] == content_of(llama3)["weights"]


def test_a_changed_tensor_type_or_name_is_another_content(llama3: Path, tmp_path: Path) -> None:
    weights = load_file(llama3 / "model.safetensors")
    (tmp_path / "config.json").write_text((llama3 / "config.json").read_text())

    def content(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, tmp_path / "model.safetensors", {"format": "pt"})
        return content_of(tmp_path)["weights"]

    same = content(weights)
    others = {
        # As training changes a matrix: all of it, by little.
        content({**weights, "model.layers.1.mlp.up_proj.weight": weights["model.layers.1.mlp.up_proj.weight"] * 1.001}),
        content({**weights, "model.norm.weight": weights["model.norm.weight"] + 1e-3}),
        content({**weights, "model.norm.weight": weights["model.norm.weight"].half()}),
        content({("lm_tail.weight" if n == "lm_head.weight" else n): w for n, w in weights.items()}),
    }
    assert len(others | {same}) == 5
    assert same == content_of(llama3)["weights"]


def test_the_config_counts_and_its_folder_does_not(llama3: Path, tmp_path: Path) -> None:
    config = json.loads((llama3 / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((llama3 / "model.safetensors").read_bytes())

    def content(facts: dict[str, object]) -> str:
        (tmp_path / "config.json").write_text(json.dumps(facts))
        return content_of(tmp_path)["config"]

    same = content({**config, "_name_or_path": "/elsewhere", "transformers_version": "5"})
    assert same == content_of(llama3)["config"]
    assert content({**config, "rope_theta": 1.0}) != same


def test_what_is_missing_or_broken_is_named(llama3: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no weights"):
        Weights(tmp_path)
    LlamaForCausalLM.from_pretrained(llama3).save_pretrained(tmp_path, max_shard_size="200KB")
    second = sorted(tmp_path.glob("model-*.safetensors"))[1]
    second.write_bytes(second.read_bytes()[:100])
    with pytest.raises(ConfigError, match=f"{second.name} cannot be read"):
        Weights(tmp_path)
    second.unlink()
    with pytest.raises(ConfigError, match=f"lacks {second.name}"):
        Weights(tmp_path)
