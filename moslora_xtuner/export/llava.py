"""Write a tuned model as a Hugging Face LLaVA, a piece at a time: no more than a block and a file is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.instructions import IMAGE_TOKEN
from ..data.tokens.chat_templates import get_template
from ..training.artifacts import LLM, VISUAL_ENCODER
from . import proof
from .blocks import (
    Add,
    Written,
    answers_of,
    as_llama_config,
    became,
    generation_config,
    prove,
    without_traces,
    write_blocks,
    write_rim,
)  # fmt: skip
from .llm import StreamedLlm
from .parts import LANGUAGE_MODEL, Parts, number_type
from .processor import engine_tokenizer, write_processor
from .shards import Shards
from .tower import Tower


def write_llava(
    folder: Path,
    parts: Parts,
    *,
    dtype: torch.dtype | None = None,
    base: str = "dequantised",
    adapter: Path | None = None,
    tower_adapted: bool = False,
) -> Written:
    """Write config, weights and processor into a folder that is being made, and prove them.

    Args:
        folder: empty.
        parts: of the run.
        dtype: of the weights; by default that of the training.
        base: what a quantised base becomes: the weights that its layers computed with, or the `original` ones.
        adapter: the same adapters, written for this LLaVA to stand beside it (`lora.write_lora`): the language model's
            is then not put into the weights.
        tower_adapted: that it holds the visual encoder's, too, which is then not put into the weights either.

    Raises:
        ExportError: Hugging Face's LLaVA cannot hold the model, or what was written is not what was trained.
    """
    from transformers import CLIPImageProcessor

    parts.require_same_bases()
    trained = number_type(parts, LLM)
    quantisation = parts.quantisation(LLM, needed=base != "original")
    llm = StreamedLlm(parts.llm, parts.llm_adapter, quantisation, trained, parts.inside)
    wanted = dtype or trained or llm.weights.get(f"{llm.prefix}{llm.norm}.weight").dtype
    tower = Tower.trained(parts, base)
    template = get_template(parts.template)
    tokenizer = engine_tokenizer(parts.llm, template, parts.record.system)
    own = proof.read_probes(parts.probes)
    prompt = template.instruction.replace("{input}", "{}")
    probes = proof.within_budget(own or proof.made_up_probes(tokenizer, prompt, tower.edge), tower.patches)

    shards = Shards(folder)

    def add(name: str, tensor: Tensor) -> None:
        shards.add(name, tensor.detach().to(wanted))

    first = Tower.trained(parts) if parts.quantisation(VISUAL_ENCODER, needed=False) and base == "original" else tower
    seen = {"trained": features(first, probes)}
    seen |= _write_tower(tower, add, probes, wanted, tower_adapted)
    states = {
        way: [
            proof.embedded(llm, probe, shown, wanted if way == "written" else None)
            for probe, shown in zip(probes, found, strict=True)
        ]
        for way, found in seen.items()
    }
    states = write_blocks(llm, add, states, dtype=wanted, base=base, merge=adapter is None, under=f"{LANGUAGE_MODEL}.")
    vocabulary = write_rim(llm, add, len(tokenizer), f"{LANGUAGE_MODEL}.")
    shards.close()
    _write_config(folder, llm, tower.config, parts, tokenizer, vocabulary, wanted)
    images = CLIPImageProcessor.from_pretrained(parts.visual_encoder)
    write_processor(folder, tokenizer, images, tower.config, parts.pad_image_to_square)

    gap = prove(folder, parts, llm, probes, states, lambda: answers_from_disk(folder, probes, adapter), dtype=wanted)
    return Written(wanted, became(parts, base), gap, shards.parameters, len(probes), bool(own))


Features = list[Tensor | None]


def features(tower: Tower, probes: Sequence[proof.Probe]) -> Features:
    """Of each record's pictures; None where it has none."""
    return [None if probe.pixels is None else tower.projected(probe.pixels) for probe in probes]


def _write_tower(
    tower: Tower, add: Add, probes: Sequence[proof.Probe], dtype: torch.dtype, adapted: bool
) -> dict[str, Features]:
    """Write visual encoder and projector; returns the features of the intended, merged, written ones.

    Raises ExportError when merging changed them.
    """
    intended = features(tower, probes)
    merged = intended
    if not adapted:
        tower.weights(merge=True)
        merged = features(tower, probes)
        for before, after in zip(intended, merged, strict=True):
            if before is not None and after is not None:
                flat = proof.compare([before.flatten(0, 1)], [after.flatten(0, 1)])
                proof.require(flat, proof.MERGED, "the visual encoder with its adapter merged is not the two together")
    tower.round(dtype)
    written = features(tower, probes)
    for name, weight in tower.weights(merge=False).items():
        add(name, weight)
    return {"intended": intended, "merged": merged, "written": written}


def answers_from_disk(folder: Path, probes: list[proof.Probe], adapter: Path | None = None) -> list[Tensor]:
    """The logits at the answers' places of a written LLaVA, with the adapter beside it."""
    llm, tower = StreamedLlm(folder, adapter, inside=LANGUAGE_MODEL), Tower.read(folder, adapter)
    return answers_of(llm, probes, features(tower, probes))


def _write_config(
    folder: Path, llm: StreamedLlm, vision: Any, parts: Parts, tokenizer: Any, vocabulary: int, dtype: torch.dtype
) -> None:
    from transformers import LlavaConfig

    text = as_llama_config(llm, vocabulary, dtype)
    text.tie_word_embeddings = False  # both are written: a release that ties them otherwise finds the same weights
    vision.torch_dtype = dtype
    text.architectures = vision.architectures = None
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=parts.visual_select_layer,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        tie_word_embeddings=False,
        torch_dtype=dtype,
        architectures=["LlavaForConditionalGeneration"],
    )
    for inner in (config, text, vision):
        without_traces(inner)
    config.save_pretrained(folder)
    generation_config(tokenizer, get_template(parts.template)).save_pretrained(folder)
