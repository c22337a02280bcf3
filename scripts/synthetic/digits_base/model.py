"""The base model as one module, and its files."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from .words import IGNORE, IMAGE_ID

IMAGE, PATCH = 48, 8
IMAGE_TOKENS = (IMAGE // PATCH) ** 2


def image_processor() -> CLIPImageProcessor:
    """CLIP's own preprocessing at 48 pixels."""
    return CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE})


class Base(nn.Module):
    """LLaVA's forward, as plain as can be: the projected patch features stand in the image's places."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llm = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=6,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, rms_norm_eps=1e-5,
                bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id, initializer_range=0.04,
            )
        )  # fmt: skip
        self.visual_encoder = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=96, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
                image_size=IMAGE, patch_size=PATCH, projection_dim=96, initializer_range=0.04,
            )
        )  # fmt: skip
        self.projector = nn.Sequential(nn.Linear(96, 128), nn.GELU(), nn.Linear(128, 128))

    def forward(
        self, ids: torch.Tensor, labels: torch.Tensor, pixels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) at the n labelled places, their labels (n,), and those places (rows, length - 1)."""
        embeds = self.llm.get_input_embeddings()(ids.clamp(min=0))
        if len(pixels):
            hidden = self.visual_encoder(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
            features = self.projector(hidden)
            embeds = embeds.masked_scatter((ids == IMAGE_ID).unsqueeze(-1), features.to(embeds.dtype))
        hidden = self.llm.model(inputs_embeds=embeds).last_hidden_state
        # Right padding under a causal mask needs no attention mask, and only labelled places need logits.
        wanted = labels[:, 1:] != IGNORE
        return self.llm.lm_head(hidden[:, :-1][wanted]).float(), labels[:, 1:][wanted], wanted


def save(model: Base, tokenizer: PreTrainedTokenizerFast, out: Path, facts: dict[str, object]) -> None:
    """Write `llm/`, `visual_encoder/` and `projector/` in fp16, with the facts of the build beside them."""
    from safetensors.torch import save_file

    model = copy.deepcopy(model).half()
    model.llm.save_pretrained(out / "llm")
    tokenizer.save_pretrained(out / "llm")
    model.visual_encoder.save_pretrained(out / "visual_encoder")
    image_processor().save_pretrained(out / "visual_encoder")
    (out / "projector").mkdir(parents=True, exist_ok=True)
    # XTuner's ProjectorModel names its layers `model.0` and `model.2`.
    weights = {f"model.{name}": value.contiguous() for name, value in model.projector.state_dict().items()}
    save_file(weights, out / "projector" / "model.safetensors", {"format": "pt"})
    (out / "base.json").write_text(json.dumps(facts, indent=2) + "\n")
