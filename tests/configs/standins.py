"""Small checkpoints of the classes, layouts and file formats that the recipes for large models load, and data."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

WIDTH = 256
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "yellow": (230, 210, 60)}


def make_llama3(folder: Path) -> Path:
    """A LlamaForCausalLM with grouped-query attention and a tokenizer with LLaMA-3's special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(str(files("moslora_xtuner") / "assets" / "digits_base" / "llm"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_clip(folder: Path) -> Path:
    """A CLIPVisionModel with the real one's 336 pixels and patches of 14, so 576 features, and its processor."""
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=336,
        patch_size=14,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


def make_projector(folder: Path) -> Path:
    """A two-layer projector as stage 1 leaves it."""
    torch.manual_seed(2)
    shapes = {"model.0.weight": (WIDTH, WIDTH), "model.0.bias": (WIDTH,)}
    shapes |= {name.replace("0", "2"): shape for name, shape in shapes.items()}
    folder.mkdir(parents=True)
    save_file({n: torch.randn(shape) * 0.05 for n, shape in shapes.items()}, folder / "model.safetensors")
    return folder


def make_mix(folder: Path, records: int) -> Path:
    """LLaVA-format records about pictures of one colour, every eighth without a picture; returns the JSON."""
    (folder / "images").mkdir(parents=True)
    names = list(COLOURS)
    made = []
    for index in range(records):
        colour = names[index % len(names)]
        question, answer = "What colour is this?", f"It is {colour}."
        record: dict[str, object] = {"id": str(index)}
        if index % 8 == 7:
            question = f"Say {colour}."
        else:
            Image.fromarray(np.full((20, 30, 3), COLOURS[colour], np.uint8)).save(folder / "images" / f"{index}.png")
            record["image"] = f"{index}.png"
            question = f"<image>\n{question}"
        record["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        made.append(record)
    path = folder / "mix.json"
    path.write_text(json.dumps(made))
    return path
