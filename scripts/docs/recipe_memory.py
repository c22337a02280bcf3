"""The memory that the recipes for large models need on a GPU, by the formula of docs/plan.md at the real sizes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from bench.training.shapes import CLIP_L_336, SHAPES
from mmengine.config import Config
from mmengine.utils.misc import get_object_from_string
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM
from xtuner._lite.modelings.internlm2 import InternLM2Config, InternLM2ForCausalLM

from moslora_xtuner.training.plan.memory import GIB, Batch, Precision, Sharding, estimate
from moslora_xtuner.training.plan.setting import ways_of
from moslora_xtuner.training.plan.shapes import part
from moslora_xtuner.training.targets import useful_layers

BUCKET = 100_000_000  # xtuner_configs/deepspeed/zero2.json
ONE_CARD = {"llava_llama3_qmoslora"}
LINE = re.compile(r"^Memory: .*?\n.*?\n(?=\"\"\")", re.MULTILINE)


def memory(path: Path) -> tuple[int, int, int, float] | None:
    """GPUs, records of a micro-batch, their tokens and GiB a GPU; None for DigitsVQA, which fits everywhere."""
    if not path.stem.startswith("llava_"):
        return None
    config = Config.fromfile(path, import_custom_modules=False).to_dict()
    with torch.device("meta"):
        llm = (
            LlamaForCausalLM(LlamaConfig(**SHAPES["llama3-8b"].llm))
            if "llama3" in path.stem
            else InternLM2ForCausalLM(InternLM2Config(bias=False, **SHAPES["internlm2-7b"].llm))
        )
        visual = CLIPVisionModel(CLIPVisionConfig(**CLIP_L_336))
    rows = config["train_dataloader"]["batch_size"]
    length = 640 if "pretrain" in path.stem else 2048  # a caption, or as long as prepare lets a record be
    gpus = 1 if path.stem in ONE_CARD else 4
    needed = estimate(
        part(llm, _adapters(config["model"].get("llm_lora"))),
        part(visual, _adapters(config["model"].get("visual_encoder_lora"), useful_layers(-2, 24))),
        4096 * 1025 + 4096 * 4097,
        Batch(rows, length, rows, 576, 336),
        Precision(2, 1, "quantization_config" in config["model"]["llm"]),
        Sharding(2, gpus, BUCKET, overlap=True),
        ways_of(config["model"], rows * length),
    )
    return gpus, rows, length, needed.total / GIB


def line(path: Path, needs: tuple[int, int, int, float]) -> str:
    """The two lines of a recipe's head."""
    gpus, rows, length, gib = needs
    whose = "the GPU" if gpus == 1 else f"each of {gpus} GPUs"
    return (
        f"Memory: {gib:.0f} GiB of {whose} where {rows} records of {length} tokens meet (formula of docs/plan.md).\n"
        f"`moslora plan {path.stem} --gpus {gpus} --gpu-memory GIB` counts it, and the hours, for your data.\n"
    )


def _adapters(settings: dict[str, Any] | None, layers: list[int] | None = None) -> Any:
    if settings is None:
        return None
    kind: Any = get_object_from_string(settings["type"])
    config = kind(**{key: value for key, value in settings.items() if key != "type"})
    if layers is not None:
        config.layers_to_transform = layers
    return config
