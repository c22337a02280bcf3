"""A LLaVA of a real size with random weights on disk, as `moslora export` leaves one: for timing, not for answers."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch

from ..training.shapes import Shape, made_on

IMAGE = "<image>"


def write_random_llava(shape: Shape, folder: Path) -> Path:
    """Write it in the number type of the machine (bf16 on a GPU, float32 without one); return the folder.

    The tokenizer and the chat form are those of the base model that ships; the vocabulary is the shape's.
    """
    from transformers import (
        AutoTokenizer,
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    from moslora_xtuner.data.tokens.chat_templates import get_template
    from moslora_xtuner.export.form import LLAVA, ExportForm

    gpu = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(str(files("moslora_xtuner") / "assets" / "digits_base" / "llm"))
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**shape.vision),
        text_config=LlamaConfig(rope_theta=500000.0, **shape.llm),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        image_seq_length=shape.patches,
    )
    torch.manual_seed(0)
    with made_on(torch.bfloat16 if gpu else torch.float32, torch.device("cuda" if gpu else "cpu")):
        model = LlavaForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    for inner in (model.config.text_config, model.config.vision_config):
        inner._attn_implementation_autoset = False  # as in moslora_xtuner.export.merge
    edge = shape.vision["image_size"]
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}),
        tokenizer=tokenizer,
        patch_size=shape.vision["patch_size"],
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    template = get_template("llama3_chat")
    ExportForm(
        kind=LLAVA,
        name=f"random {shape.name}, {shape.layers} layers",
        system_template=template.system,
        instruction=template.instruction,
        stop_words=tuple(template.stop_words),
    ).write(folder)
    return folder
