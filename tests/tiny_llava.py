"""MosLoraLLaVA on the stand-in of the digits base, with adapters that do something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

PATCHES = 36


def parts(base: Path) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, CLIPVisionModel

    return {
        "llm": AutoModelForCausalLM.from_pretrained(base / "llm"),
        "visual_encoder": CLIPVisionModel.from_pretrained(base / "visual_encoder"),
    }


def adapters() -> dict[str, Any]:
    from moslora_xtuner.adapters import MosLoraConfig

    return {
        "llm_lora": MosLoraConfig(
            r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "up_proj"], init_lora_weights=False
        ),
        "visual_encoder_lora": MosLoraConfig(
            r=4, target_modules=["q_proj", "fc1"], layers_to_transform=[0, 1, 2], init_lora_weights=False
        ),
    }


def build(base: Path, tuned: bool = True, **options: Any) -> Any:
    from moslora_xtuner.model import MosLoraLLaVA

    torch.manual_seed(1)
    options = {"projector_weights": str(base / "projector"), **options}
    return MosLoraLLaVA(
        **parts(base),
        freeze_llm=True,
        freeze_visual_encoder=True,
        use_activation_checkpointing=False,
        **(adapters() if tuned else {}),
        **options,
    )
