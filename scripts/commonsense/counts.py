"""How many weights each method trains at the real size of LLaMA-3 8B, counted on the meta device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from bench.training.shapes import SHAPES
from mmengine.config import Config
from mmengine.utils.misc import get_object_from_string
from transformers import LlamaConfig, LlamaForCausalLM

from moslora_xtuner.training.plan.shapes import Part, part

CONFIGS = Path(__file__).resolve().parents[2] / "xtuner_configs"


def methods() -> list[str]:
    """The recipes of the paper's section 4.1."""
    return sorted(path.stem for path in CONFIGS.glob("commonsense_*.py"))


def settings(name: str) -> dict[str, Any]:
    """A recipe's adapter, as its config says it."""
    found: dict[str, Any] = Config.fromfile(CONFIGS / f"{name}.py", import_custom_modules=False).to_dict()
    adapter: dict[str, Any] = found["model"]["llm_lora"]
    return adapter


def adapted(name: str) -> Part:
    """LLaMA-3 8B with a recipe's adapter, its shapes alone."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES["llama3-8b"].llm))
    said = settings(name)
    kind: Any = get_object_from_string(said["type"])
    return part(model, kind(**{key: value for key, value in said.items() if key != "type"}))
