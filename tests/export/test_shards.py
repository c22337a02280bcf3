"""Files of bounded size, that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from moslora_xtuner.export.shards import Shards
from moslora_xtuner.llm.weights import Weights


def test_files_of_bounded_size(tmp_path: Path) -> None:
    tensors = {f"t{number}": torch.full((100,), float(number)) for number in range(7)}  # 400 bytes each
    tensors["large"] = torch.ones(1000)
    shards = Shards(tmp_path, most=1000)
    for name, tensor in tensors.items():
        shards.add(name, tensor)
    shards.close()
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert files == [f"model-{number:05}-of-00005.safetensors" for number in range(1, 6)]
    sizes = [sum(w.numel() * 4 for w in load_file(tmp_path / file).values()) for file in files]
    assert sizes == [800, 800, 800, 400, 4000]
    assert (shards.bytes, shards.parameters, shards.largest) == (6800, 1700, 4000)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 6800
    found = Weights(tmp_path)
    assert all(torch.equal(found.get(name), tensor) for name, tensor in tensors.items())


def test_one_file_has_the_plain_name(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    shards.add("a", torch.arange(6).reshape(2, 3).T)  # not contiguous
    shards.close()
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert torch.equal(load_file(tmp_path / "model.safetensors")["a"], torch.arange(6).reshape(2, 3).T)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o044  # another user's server reads it
