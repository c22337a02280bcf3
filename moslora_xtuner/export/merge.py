"""Write a tuned model as plain LoRA adapters, or merged as a stock Hugging Face LLaVA."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from ..data.instructions import IMAGE_TOKEN
from ..data.tokens.chat_templates import get_template
from ..errors import ExportError, UsageError
from ..llm.families import INTERNLM2, family
from ..llm.load import load_llm, load_tokenizer
from ..output import atomic_folder
from ..progress import quiet
from ..projector import projector_weights
from ..training.artifacts import PROJECTOR
from .form import LLAVA, LORA, ExportForm
from .parts import ADAPTER_CONFIG, LLM_ADAPTER, VISUAL_ENCODER_ADAPTER, Parts, find_parts

TOLERANCE = 1e-3
"""Largest difference of the merged model's outputs from the tuned one's, relative to their largest value."""


def export(run: Path, out: Path, *, format: str = "hf", name: str | None = None) -> Path:
    """Export a finished run, or a base model's folder, and return `out`.

    Args:
        run: a run's folder, its `adapters/`, a folder with `base.json`, or one PEFT adapter's directory.
        out: the folder to make; it appears whole or not at all.
        format: `hf`, the adapters merged into a LlavaForConditionalGeneration with its processor, or `lora`,
            the adapters as plain LoRA directories (B' = B M) with the projector.
        name: what the model is called in reports; the run's folder name by default.

    Raises:
        ExportError: the run is unfinished, or the merged model does not equal the tuned one.
        UsageError: no such format, or one that an adapter alone does not have.
        OutputError: `out` holds something else.
    """
    if (Path(run) / ADAPTER_CONFIG).is_file():
        return _export_adapter(Path(run), Path(out), format)
    parts = find_parts(Path(run))
    if format == "lora":
        return _export_lora(parts, Path(out), name or Path(run).name)
    if format == "hf":
        return _export_hf(parts, Path(out), name or Path(run).name)
    raise UsageError(f"no export format {format!r}: use hf or lora")


def _export_adapter(adapter: Path, out: Path, format: str) -> Path:
    from ..adapters import fold_adapter

    if format != "lora":
        raise UsageError(f"{adapter} is an adapter alone, without its model: use --format lora")
    return fold_adapter(adapter, out)


def _export_lora(parts: Parts, out: Path, name: str) -> Path:
    from ..adapters import fold_adapter

    adapters = {LLM_ADAPTER: parts.llm_adapter, VISUAL_ENCODER_ADAPTER: parts.visual_encoder_adapter}
    if not any(adapters.values()):
        raise ExportError("this is a base model without adapters: there is no LoRA to write")
    with atomic_folder(out, kind="export") as folder:
        for place, adapter in adapters.items():
            if adapter is not None:
                fold_adapter(adapter, folder / place)
        shutil.copytree(parts.projector, folder / PROJECTOR)
        _form(parts, LORA, name).write(folder)
    return out


def _export_hf(parts: Parts, out: Path, name: str) -> Path:
    from transformers import CLIPImageProcessor, LlavaProcessor

    llm, visual_encoder = _merged_llm(parts), _merged_visual_encoder(parts)
    tokenizer = _plain_tokenizer(parts.llm)
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    model = assemble(llm, visual_encoder, parts, tokenizer)
    # WORK-AROUND transformers 4.48 (save_pretrained): it writes "attention was chosen" into the inner configs, and a
    # model that is loaded with that takes the slow eager one. Can go when config.json no longer holds it.
    for config in (model.config.text_config, model.config.vision_config):
        config._attn_implementation_autoset = False
    vision = visual_encoder.config
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor.from_pretrained(parts.visual_encoder),
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        chat_template=tokenizer.chat_template,
        image_token=IMAGE_TOKEN,
        num_additional_image_tokens=1,
    )
    with atomic_folder(out, kind="export") as folder:
        with quiet():  # accelerate imports DeepSpeed here, which talks on standard output
            model.save_pretrained(folder)
        processor.save_pretrained(folder)
        _form(parts, LLAVA, name).write(folder)
    return out


def _form(parts: Parts, kind: str, name: str) -> ExportForm:
    template = get_template(parts.template)
    return ExportForm(
        kind=kind,
        name=name,
        system_template=template.system,
        instruction=template.instruction,
        stop_words=tuple(template.stop_words),
        pad_image_to_square=parts.pad_image_to_square,
        source=parts.facts,
    )


def _plain_tokenizer(checkpoint: str) -> Any:
    tokenizer = load_tokenizer(checkpoint)
    if family(checkpoint) == INTERNLM2:
        from ..llm.internlm2_tokenizer import as_plain_fast

        return as_plain_fast(tokenizer)
    return tokenizer


def _merged_llm(parts: Parts) -> Any:
    """The language model with its adapter merged, in LLaMA's form: Hugging Face's LLaVA knows no InternLM2."""
    from ..llm.internlm2_as_llama import as_llama

    llm = load_llm(parts.llm, torch_dtype=torch.float32)
    probe = torch.arange(64)[None] % llm.config.vocab_size
    return _merge(
        llm,
        parts.llm_adapter,
        "the language model",
        lambda m: m(input_ids=probe).logits,
        finish=as_llama if family(parts.llm) == INTERNLM2 else None,
    )


def _merged_visual_encoder(parts: Parts) -> Any:
    from transformers import CLIPVisionModel

    encoder = CLIPVisionModel.from_pretrained(parts.visual_encoder, torch_dtype=torch.float32)
    edge = encoder.config.image_size
    probe = torch.linspace(-2, 2, 3 * edge * edge).reshape(1, 3, edge, edge).sin()
    return _merge(
        encoder,
        parts.visual_encoder_adapter,
        "the visual encoder",
        lambda m: m(pixel_values=probe, output_hidden_states=True).hidden_states[parts.visual_select_layer],
    )


@torch.no_grad()
def _merge(base: Any, adapter: Path | None, what: str, probe: Any, finish: Any = None) -> Any:
    """Merge an adapter, and prove on a probe that the merged model computes what the tuned one did.

    `finish` gives the merged model its last form, which is the one that is proved.
    """
    from peft import PeftModel

    from .. import adapters  # noqa: F401  (registers MOSLORA with PEFT)

    base.eval()
    if adapter is None and finish is None:
        return base
    tuned = base if adapter is None else PeftModel.from_pretrained(base, adapter).eval()
    wanted = probe(tuned)
    merged = base if adapter is None else tuned.merge_and_unload(safe_merge=True)
    if finish is not None:
        merged = finish(merged)
    found = probe(merged)
    scale = wanted.abs().max().clamp(min=1e-12)
    gap = float((found - wanted).abs().max() / scale)
    if not gap <= TOLERANCE:
        raise ExportError(f"{what} with {adapter} merged differs from the tuned one by {gap:.1e} of its scale")
    return merged


def assemble(llm: Any, visual_encoder: Any, parts: Parts, tokenizer: Any) -> Any:
    """A LlavaForConditionalGeneration made of the three pieces.

    Raises:
        ExportError: Hugging Face's LLaVA cannot hold this projector.
    """
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    weights = projector_weights(parts.projector)
    if set(weights) != {"model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias"}:
        raise ExportError(f"Hugging Face's LLaVA has a projector of two layers, this one has {sorted(weights)}")
    add_image_token(llm, len(tokenizer))
    patches = (visual_encoder.config.image_size // visual_encoder.config.patch_size) ** 2
    config = LlavaConfig(
        vision_config=visual_encoder.config,
        text_config=llm.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        projector_hidden_act="gelu",
        vision_feature_select_strategy="default",
        vision_feature_layer=parts.visual_select_layer,
        image_seq_length=patches,
    )
    model = LlavaForConditionalGeneration(config)
    model.language_model.load_state_dict(llm.state_dict())
    model.vision_tower.load_state_dict(visual_encoder.state_dict())
    renamed = {"0": "linear_1", "2": "linear_2"}
    model.multi_modal_projector.load_state_dict(
        {f"{renamed[key.split('.')[1]]}.{key.split('.')[2]}": value for key, value in weights.items()}
    )
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    stops = tokenizer.convert_tokens_to_ids(list(get_template(parts.template).stop_words))
    model.generation_config.eos_token_id = sorted({tokenizer.eos_token_id, *stops})
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model.eval()


@torch.no_grad()
def add_image_token(llm: Any, vocabulary: int) -> None:
    """Give the added tokens rows in the embedding and in the head: the mean of all other rows.

    A mean of logits is never above their largest, so greedy decoding cannot choose an added token.
    """
    before = llm.config.vocab_size
    if vocabulary <= before:
        return
    llm.resize_token_embeddings(vocabulary, mean_resizing=False)
    for rows in (llm.get_input_embeddings().weight, llm.get_output_embeddings().weight):
        rows[before:] = rows[:before].mean(dim=0)
