"""Random checkpoints in the sizes, number types and file layouts of those that the recipes load."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..training.shapes import CLIP_L_336, SHAPES, llm_class

ROOT = Path(__file__).resolve().parents[3]
COMPLETE = ".complete"
LLMS = {"llama3": "llama3-8b", "internlm2": "internlm2-7b"}
SHARD_GB = {"llama3": 5, "internlm2": 2}
"""The largest file of the published checkpoints: four of LLaMA-3 8B, eight of InternLM2-Chat 7B."""
PUBLISHED: dict[str, dict[str, Any]] = {
    "llama3": {"rms_norm_eps": 1e-5, "bos_token_id": 128000, "eos_token_id": 128009},
    "internlm2": {
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 32768,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "auto_map": {
            "AutoConfig": "configuration_internlm2.InternLM2Config",
            "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
        },
    },
}
"""What the published config.json say besides the sizes."""
Shapes = dict[str, tuple[int, ...]]


def write_all(work: Path, families: list[str]) -> None:
    """Language models, visual encoder and projectors under `work`; what is there and complete is kept."""
    for family in families:
        _once(work / family, lambda folder, family=family: _llm(folder, family))
        _once(work / f"projector_{family}", lambda folder, family=family: _projector(folder, family))
    _once(work / "clip", _clip)


def _once(folder: Path, write: Callable[[Path], None]) -> None:
    if (folder / COMPLETE).is_file():
        return
    print(f"writing {folder.name}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder)
    (folder / COMPLETE).touch()


def _llm(folder: Path, family: str) -> None:
    kind, config = llm_class(SHAPES[LLMS[family]])
    config.update({**PUBLISHED[family], "torch_dtype": "bfloat16", "architectures": [kind.__name__]})
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in kind(config).state_dict().items()}
    config.save_pretrained(folder)
    _tokenizer(folder, family)
    shards = list(_shards(shapes, SHARD_GB[family] * 10**9))
    where: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(_random({name: shapes[name] for name in names}, torch.bfloat16), folder / file, {"format": "pt"})
        where |= dict.fromkeys(names, file)
    write_index(folder, shapes, where)


def write_index(folder: Path, shapes: Shapes, where: dict[str, str]) -> None:
    """The file that says which shard holds which weight."""
    size = 2 * sum(torch.Size(shapes[name]).numel() for name in where)
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(shapes: Shapes, limit: int) -> Iterator[list[str]]:
    """Names in their order, as many a file as stay below the limit in bytes."""
    names: list[str] = []
    held = 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        if names and held + size > limit:
            yield names
            names, held = [], 0
        names.append(name)
        held += size
    yield names


def _random(shapes: Shapes, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Normal with deviation 0.02, norms 1: two at a time, since torch draws on one core."""

    def draw(item: tuple[str, tuple[int, ...]]) -> tuple[str, torch.Tensor]:
        name, shape = item
        if "norm" in name:
            made = torch.ones(shape, dtype=dtype) if name.endswith("weight") else torch.zeros(shape, dtype=dtype)
        else:
            generator = torch.Generator().manual_seed(sum(name.encode()))
            made = torch.empty(shape, dtype=dtype)
            for rows in made.split(max(1, (1 << 24) // max(1, made[0].numel()))) if made.dim() else [made]:
                rows.copy_(torch.empty(rows.shape).normal_(0, 0.02, generator=generator))
        return name, made

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(draw, shapes.items()))


def _tokenizer(folder: Path, family: str) -> None:
    """The stand-in that the tests use: few words, all special tokens; the vocabulary of the config is the real one."""
    sys.path.append(str(ROOT / "tests"))
    import standins

    if family == "llama3":
        standins.make_llama3_tokenizer(folder)
    else:
        standins.make_internlm2_tokenizer(folder)


def _projector(folder: Path, family: str) -> None:
    """As stage 1 leaves it."""
    vision, text = int(CLIP_L_336["hidden_size"]), int(SHAPES[LLMS[family]].llm["hidden_size"])
    shapes = {
        "model.0.weight": (text, vision),
        "model.0.bias": (text,),
        "model.2.weight": (text, text),
        "model.2.bias": (text,),
    }
    save_file(_random(shapes, torch.bfloat16), folder / "model.safetensors", {"format": "pt"})


def _clip(folder: Path) -> None:
    """A whole CLIP in float32 as `pytorch_model.bin`, text tower and all, as published."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    config = CLIPConfig(
        text_config={**text, "projection_dim": 768},
        vision_config={**CLIP_L_336, "projection_dim": 768},
        projection_dim=768,
        torch_dtype="float32",
        architectures=["CLIPModel"],
    )
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in CLIPModel(config).state_dict().items()}
    config.save_pretrained(folder)
    torch.save(_random(shapes, torch.float32), folder / "pytorch_model.bin")
    CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}).save_pretrained(folder)
