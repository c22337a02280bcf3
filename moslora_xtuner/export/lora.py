"""The language model's adapter, and the visual encoder's if asked for, as one plain LoRA of the exported LLaVA."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..adapters.config import DISK_TYPE
from ..adapters.directory.contents import PREFIX, Layer, take_apart
from ..adapters.directory.disk import CONFIG_FILE, WEIGHTS_FILE, read_config
from ..adapters.directory.fold import fold_config, fold_state_dict
from ..adapters.directory.whole import read_whole
from ..errors import ExportError
from ..llm.internlm2_as_llama import NAMES, split_wqkv
from .parts import LANGUAGE_MODEL, TOWER

_BLOCK = re.compile(r"\.layers\.(\d+)\.")


def write_lora(
    folder: Path, llm: Path, model: Mapping[str, Any], tower: Path | None = None, under: str = f"{LANGUAGE_MODEL}."
) -> int:
    """Write adapter_config.json and adapter_model.safetensors; returns the rank.

    The layers are named as in the LLaVA: `language_model.model.layers...`, `vision_tower.vision_model...`; both
    stock PEFT and vLLM read these. Mixers are folded, B' = B M. Where layers have different ranks or scales, they get
    one: the rank is the largest, the others' matrices are filled with zeros, and the scale s goes into s B.

    Args:
        folder: to be made.
        llm, tower: the adapters' directories.
        model: the language model's config.
        under: what the language model's layers are called under; "" where it stands alone.

    Raises:
        ExportError: an adapter holds what no plain LoRA has.
    """
    layers = _layers(llm, under, model)
    if tower is not None:
        layers |= _layers(tower, f"{TOWER}.", model)
    config = fold_config(read_config(llm))
    found = {(len(layer.parts["A"]), scale) for layer, scale in layers.values()}
    alike = found == {(config["r"], _scale({**config, "alpha_pattern": None}, "", config["r"]))}
    rank = max(rank for rank, _ in found)
    weights = {}
    for name, (layer, scale) in layers.items():
        for part, tensor in layer.parts.items():
            if not alike and part in "AB":
                tensor = _widened(tensor, rank, 0 if part == "A" else 1)
                tensor = (tensor.double() * scale).to(tensor.dtype) if part == "B" else tensor
            tail = "lora_magnitude_vector" if part == "magnitude_vector" else f"lora_{part}.weight"
            weights[f"{PREFIX}{name}.{tail}"] = tensor.contiguous()
    if not alike:
        config |= {"r": rank, "lora_alpha": rank, "use_rslora": False}
    config |= {
        "target_modules": pattern(list(layers)),
        "base_model_name_or_path": None,
        "task_type": "CAUSAL_LM",
        "rank_pattern": {},
        "alpha_pattern": {},
        "layers_to_transform": None,
        "layers_pattern": None,
        "inference_mode": True,
    }
    folder.mkdir()
    from safetensors.torch import save_file

    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(weights, folder / WEIGHTS_FILE, {"format": "pt"})
    (folder / WEIGHTS_FILE).chmod(0o644)
    return rank


def pattern(names: list[str]) -> str:
    """A regular expression that matches these layers of a LLaVA, and no others of it, in every release.

    transformers 4.52 put `model.` before `language_model` and took it from behind.
    """
    parts: dict[tuple[str, str], set[int]] = {}
    for name in names:
        block = _BLOCK.search(name)
        if block is None:
            raise ExportError(f"{name} is outside the blocks of its model: no engine takes a LoRA there")
        parts.setdefault((name.partition(".")[0], name[block.end() :]), set()).add(int(block[1]))
    by_blocks: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (part, leaf), numbered in parts.items():
        by_blocks.setdefault((part, tuple(sorted(numbered))), []).append(leaf)
    found = []
    for (part, blocks), leaves in sorted(by_blocks.items()):
        numbers = "|".join(map(str, blocks))
        found.append(rf"(.*\.)?{part}\..*layers\.({numbers})\.({'|'.join(map(re.escape, sorted(leaves)))})")
    return found[0] if len(found) == 1 else "|".join(f"({each})" for each in found)


def _layers(adapter: Path, prefix: str, model: Mapping[str, Any]) -> dict[str, tuple[Layer, float]]:
    """The folded layers by their names in the LLaVA, each with its scale."""
    kind = json.loads((adapter / CONFIG_FILE).read_text(encoding="utf-8")).get("peft_type")
    if kind not in ("LORA", DISK_TYPE):
        raise ExportError(f"{adapter} is of the type {kind}, and no plain LoRA: use --format hf")
    config, weights = read_whole(adapter)
    if kind != "LORA":
        weights = fold_state_dict(weights, config["mixer"])
    contents = take_apart(weights)
    if contents.others:
        raise ExportError(f"{adapter} holds {next(iter(contents.others))}, which no plain LoRA has: use --format hf")
    made = {}
    for name, layer in contents.layers.items():
        if odd := set(layer.parts) - {"A", "B", "magnitude_vector"}:
            raise ExportError(f"{adapter} holds {layer.keys[odd.pop()]}, which engines do not read: use --format hf")
        scale = _scale(config, name, len(layer.parts["A"]))
        for inner, piece in _in_llama(name, layer, model):
            made[prefix + inner] = (piece, scale)
    return made


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """s = alpha / r, or alpha / sqrt(r) with rsLoRA (peft tuners/lora/layer.py)."""
    from peft.utils.other import get_pattern_key

    patterns: dict[str, float] = config.get("alpha_pattern") or {}
    alpha = float(patterns.get(get_pattern_key(list(patterns), name), config["lora_alpha"]))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _in_llama(name: str, layer: Layer, model: Mapping[str, Any]) -> list[tuple[str, Layer]]:
    """A layer of InternLM2 as those of the LLaMA that it is exported as; any other as it is."""
    if not name.endswith(("attention.wqkv", "attention.wo")) and ".feed_forward." not in name:
        return [(name, layer)]
    if name.endswith("attention.wqkv"):
        made = []
        split = {
            part: split_wqkv(layer.parts[part], model["num_attention_heads"], model["num_key_value_heads"])
            for part in layer.parts
            if part != "A"
        }
        for place, letter in enumerate("qkv"):
            parts = {"A": layer.parts["A"].clone(), **{part: pieces[place] for part, pieces in split.items()}}
            made.append((name.replace("attention.wqkv", f"self_attn.{letter}_proj"), Layer(parts)))
        return made
    for old, new in NAMES.items():
        if name.endswith(old):
            return [(name.removesuffix(old) + new, layer)]
    raise ExportError(f"{name}: no layer of InternLM2 that is known")


def _widened(matrix: Tensor, rank: int, side: int) -> Tensor:
    shape = list(matrix.shape)
    shape[side] = rank - shape[side]
    return torch.cat([matrix, matrix.new_zeros(shape)], dim=side)
