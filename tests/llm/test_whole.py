"""A checkpoint that lacks what its model wants is refused, in every layout; a whole one is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
)

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.llm.load import classes
from moslora_xtuner.llm.whole import require_whole

Change = Callable[[dict[str, torch.Tensor]], object]


def on_meta(folder: Path) -> LlamaForCausalLM:
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig.from_pretrained(folder))


def changed(source: Path, folder: Path, change: Change) -> Path:
    folder.mkdir(exist_ok=True)
    weights = load_file(source / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_bytes((source / "config.json").read_bytes())
    return folder


@pytest.mark.parametrize("safe", [True, False])
def test_a_whole_one_in_files_of_every_kind(llama3: Path, internlm2: Path, tmp_path: Path, safe: bool) -> None:
    model = LlamaForCausalLM.from_pretrained(llama3)
    for size, files in (("5GB", 1), ("200KB", None)):
        folder = tmp_path / size
        model.save_pretrained(folder, safe_serialization=safe, max_shard_size=size)
        found = require_whole(folder, on_meta(folder), local_files_only=True)
        assert found == (files or len(list(folder.glob("*-of-*"))))
        assert require_whole(folder, model) == found
    config, kind = classes("internlm2")
    with torch.device("meta"):
        assert require_whole(internlm2, kind(config.from_pretrained(internlm2))) == 1


def test_a_tied_head_a_body_alone_and_a_part_of_a_larger_model(llama3: Path, tmp_path: Path) -> None:
    config = LlamaConfig.from_pretrained(llama3)
    config.tie_word_embeddings = True
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tied")
    require_whole(tmp_path / "tied", on_meta(tmp_path / "tied"))
    LlamaModel(config).save_pretrained(tmp_path / "body")
    require_whole(tmp_path / "body", on_meta(tmp_path / "body"))
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    small = CLIPVisionConfig(**sizes, image_size=16, patch_size=8)
    CLIPModel(CLIPConfig.from_text_vision_configs(CLIPConfig(text_config=sizes).text_config, small)).save_pretrained(
        tmp_path / "clip"
    )
    require_whole(tmp_path / "clip", CLIPVisionModel(small))
    # What transformers makes of them is what was saved: nothing was drawn at random.
    loaded = CLIPVisionModel.from_pretrained(tmp_path / "clip")
    stored = load_file(tmp_path / "clip" / "model.safetensors")
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, stored[name])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda w: w.pop("model.layers.1.mlp.up_proj.weight"),
            "lacks weights of a LlamaForCausalLM: model.layers.1.mlp",
        ),
        (lambda w: w.pop("lm_head.weight"), "lacks weights of a LlamaForCausalLM: lm_head.weight; they would be drawn"),
        (lambda w: [w.pop(n) for n in list(w) if ".layers.0." in n], r"q_proj\.weight, .* and \d more"),
        (lambda w: w.update({"model.norm.weight": torch.ones(7)}), r"norm.weight is \(7,\) and not"),
    ],
)
def test_what_is_missing_or_of_another_shape_is_named(llama3: Path, tmp_path: Path, change: Change, told: str) -> None:
    folder = changed(llama3, tmp_path / "changed", change)
    with pytest.raises(ConfigError, match=told):
        require_whole(folder, on_meta(llama3), local_files_only=True)


def test_damaged_files_are_named(llama3: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    model = LlamaForCausalLM.from_pretrained(llama3)
    for safe, pattern in ((True, "model-*.safetensors"), (False, "pytorch_model-*.bin")):
        model.save_pretrained(folder, safe_serialization=safe, max_shard_size="200KB")
        file = sorted(folder.glob(pattern))[1]
        whole = file.read_bytes()
        # cut in half; nothing but a header; a header that promises more than the file has; no bytes
        for content in (whole[: len(whole) // 2], whole[:100], b"\xff" * 7 + b"\x7f" + whole[8:], b""):
            file.write_bytes(content)
            with pytest.raises(ConfigError, match=f"{file.name} cannot be read .*download it again"):
                require_whole(folder, on_meta(llama3))
        file.write_bytes(whole)
        require_whole(folder, on_meta(llama3))
        for left in folder.glob("*"):
            left.unlink()


def test_an_index_that_is_none_or_promises_too_much(llama3: Path, tmp_path: Path) -> None:
    LlamaForCausalLM.from_pretrained(llama3).save_pretrained(tmp_path, max_shard_size="200KB")
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    for broken in ("{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": null}'):
        index.write_text(broken)
        with pytest.raises(ConfigError, match="is no index of weights"):
            require_whole(tmp_path, on_meta(llama3))
    files = sorted(set(content["weight_map"].values()))
    content["weight_map"]["model.norm.weight"] = next(
        f for f in files if f != content["weight_map"]["model.norm.weight"]
    )
    index.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"lacks model.norm.weight, which the index says"):
        require_whole(tmp_path, on_meta(llama3))
