"""Runs as training leaves them: adapters with weights that matter, without the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def tuned_model(base: Path, kind: str) -> Any:
    """MosLoraLLaVA with LoRA or MoSLoRA whose every factor is random, so that nothing cancels."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, CLIPVisionModel

    from moslora_xtuner.adapters import MosLoraConfig
    from moslora_xtuner.model import MosLoraLLaVA

    make: Any = LoraConfig if kind == "lora" else MosLoraConfig
    torch.manual_seed(2)
    model = MosLoraLLaVA(
        llm=AutoModelForCausalLM.from_pretrained(base / "llm"),
        visual_encoder=CLIPVisionModel.from_pretrained(base / "visual_encoder"),
        freeze_llm=True,
        freeze_visual_encoder=True,
        use_activation_checkpointing=False,
        projector_weights=str(base / "projector"),
        llm_lora=make(r=4, lora_alpha=8, task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"]),
        visual_encoder_lora=make(r=4, lora_alpha=4, target_modules=["v_proj", "fc1"], layers_to_transform=[0, 1, 2]),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.2)
        for weight in model.projector.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return model.eval()


def write_run(
    model: Any, llm: Path, visual_encoder: Path, run: Path, template: str = "llama3_chat", kind: str = "float32"
) -> Path:
    """The folder that `SaveAdapters` writes, without the records of its data and without its bases' content."""
    from moslora_xtuner.training.artifacts import TrainingRecord
    from moslora_xtuner.training.hooks import quantisation_of, write_parts

    folder = run / "adapters"
    folder.mkdir(parents=True)
    write_parts(model, folder)
    TrainingRecord(
        llm=str(llm),
        visual_encoder=str(visual_encoder),
        template=template,
        pad_image_to_square=True,
        visual_select_layer=-2,
        dtype=dict.fromkeys(("llm", "visual_encoder", "projector"), kind),
        **quantisation_of(model),
    ).write(folder)
    return run
