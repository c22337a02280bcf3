"""Checks of what lies on disk: the models, the tokenizer, the projector and the token store."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...data.tokens.chat_templates import require_special_tokens
from ...errors import ConfigError
from ...llm.families import INTERNLM2, LLAMA, checkpoint_file, read_config
from ...llm.load import classes, load_tokenizer
from ...llm.weights import INDEXES, SINGLE

LOADERS = {"load_llama": LLAMA, "load_internlm2": INTERNLM2}


def stored_dtype(checkpoint: str) -> str | None:
    """The number type of the first weight of a checkpoint in safetensors (`bfloat16`, ...); else None.

    transformers 4.48 maps such a file and, where the model is of the same type, leaves the weights there
    (`check_support_param_buffer_assignment`): pages of a file, which all processes share.
    """
    from safetensors import SafetensorError, safe_open

    if (file := checkpoint_file(checkpoint, INDEXES[0], local_files_only=True)) is not None:
        first = next(iter(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
        file = file.parent / first
    else:
        file = checkpoint_file(checkpoint, SINGLE[0], local_files_only=True)
    if file is None or not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as weights:
            kind: str = weights.get_slice(next(iter(weights.keys()))).get_dtype()
    except SafetensorError:
        return None  # `check_weights` has its own words for what is missing
    return {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}.get(kind, kind)


def local_config(checkpoint: str) -> dict[str, Any]:
    """A checkpoint's config, never downloaded.

    Raises:
        ConfigError: it is not on this machine.
    """
    try:
        return read_config(checkpoint, local_files_only=True)
    except ConfigError as fault:
        if not Path(checkpoint).exists() and checkpoint.count("/") == 1:
            raise ConfigError(
                f"{checkpoint} is not on this machine: `huggingface-cli download {checkpoint}`, or set its variable "
                "to the folder that holds it"
            ) from fault
        raise


def llm_config(llm: dict[str, Any]) -> Any:
    """The language model's config object, after a look at its family.

    Raises:
        ConfigError: it is not here, or of another family than the recipe's loader takes.
    """
    checkpoint = llm["pretrained_model_name_or_path"]
    found = local_config(checkpoint)
    wanted = LOADERS.get(str(llm["type"]).rsplit(".", 1)[-1])
    if wanted is not None and found.get("model_type") != wanted:
        raise ConfigError(
            f"{checkpoint} is a checkpoint of type {found.get('model_type')!r}, the recipe is for {wanted!r}"
        )
    # A config of one's own may load another family that is built as a LLaMA.
    return classes(INTERNLM2 if found.get("model_type") == INTERNLM2 else LLAMA)[0].from_dict(found)


def visual_config(checkpoint: str) -> Any:
    """The visual encoder's config object, from a whole CLIP or from its visual part.

    Raises:
        ConfigError: it is not here, or no CLIP.
    """
    from transformers import CLIPVisionConfig

    found = local_config(checkpoint)
    if found.get("model_type") == "clip":
        found = {**found["vision_config"], "model_type": "clip_vision_model"}
    if found.get("model_type") != "clip_vision_model":
        raise ConfigError(f"{checkpoint} is a checkpoint of type {found.get('model_type')!r}, not CLIP")
    return CLIPVisionConfig.from_dict(found)


def check_projector(path: str | None, visual_width: int, llm_width: int) -> str:
    """What the projector is, after a look at every name and shape.

    Raises:
        ConfigError: it is not there, or made for other models.
    """
    if path is None:
        return "starts at random"
    from ...projector import projector_weights

    wanted = {
        "model.0.weight": (llm_width, visual_width),
        "model.0.bias": (llm_width,),
        "model.2.weight": (llm_width, llm_width),
        "model.2.bias": (llm_width,),
    }
    found = {name: tuple(weight.shape) for name, weight in projector_weights(Path(path)).items()}
    if found.keys() != wanted.keys():
        raise ConfigError(f"{path} holds {sorted(found)}, not a projector of two layers")
    wrong = [f"{name} is {found[name]} and not {shape}" for name, shape in wanted.items() if found[name] != shape]
    if wrong:
        raise ConfigError(
            f"{path} was made for other models ({'; '.join(wrong)}): give the projector of this visual encoder "
            f"(width {visual_width}) and this language model (width {llm_width}), or train it with the pretrain recipe"
        )
    return f"{path}, {visual_width} to {llm_width}"


@dataclass(frozen=True)
class Store:
    """A token store's size: records, pictures, tokens with the pictures' places, the longest and the fullest record,
    and the most tokens of a record that carry a label.

    `modality_lengths` and `image_counts` are those of `TokenStore`, for the sampler.
    """

    records: int
    with_images: int
    images: int
    most_images: int
    tokens: int
    longest: int
    most_supervised: int = 0
    modality_lengths: np.ndarray | None = field(default=None, repr=False, compare=False)
    image_counts: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.records


def check_tokenizer(settings: dict[str, Any], template: str) -> Any:
    """The tokenizer, after a look at the template's special tokens.

    Raises:
        ConfigError, DataError: it is not here, or splits a special token.
    """
    path = settings["pretrained_model_name_or_path"]
    tokenizer = load_tokenizer(path, local_files_only=True)
    require_special_tokens(tokenizer, template)
    return tokenizer


def check_store(
    dataset: dict[str, Any], image_tokens: int, tokenizer: Any, template: str, vocabulary: int | None = None
) -> Store:
    """The store's size, after a look at its manifest, its bytes and its tokens.

    Raises:
        DataError: it is missing, damaged, or made with another tokenizer or template, or its images are missing; a
            record has a token that the model has not.
    """
    from ...data.tokens.store import open_store, require_tokens

    images = Path(dataset.get("image_folder", ""))
    _, table = open_store(Path(dataset["store"]), images, tokenizer, template, dataset.get("loss"))
    if vocabulary is not None:
        require_tokens(table, vocabulary)
    pictures = table.column("image_count")
    text = table.column("length")
    lengths = text + pictures * (image_tokens - 1)
    return Store(
        records=len(table),
        with_images=int((pictures > 0).sum()),
        images=int(pictures.sum()),
        most_images=int(pictures.max()),
        tokens=int(lengths.sum(dtype="int64")),
        longest=int(lengths.max()),
        most_supervised=int(table.column("supervised").max()),
        modality_lengths=np.where(pictures > 0, text, -text),
        image_counts=pictures,
    )
