"""The exported processor: it shows an engine the picture and the words that training saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data.instructions import IMAGE_TOKEN
from ..data.tokens.chat_templates import Template
from ..data.tokens.tokenise import Encoder
from ..errors import ExportError
from ..llm.load import load_tokenizer
from .chat_template import jinja

PREPROCESSOR = "preprocessor_config.json"


def opening(tokenizer: Any, template: Template) -> str:
    """The text of what a training's records begin with: the BOS, or what the tokenizer itself puts before a text."""
    return "".join(tokenizer.convert_ids_to_tokens(Encoder(tokenizer, plain=template.plain).bos))


def engine_tokenizer(checkpoint: str, template: Template, system: str = "", pictures: bool = True) -> Any:
    """The checkpoint's tokenizer as engines load it: with the token of a picture, our chat template, and no BOS.

    The template writes the BOS. A tokenizer that added one too would give two to all who tokenise its text
    (`processor(text=...)`, `LLM.generate`). A language model alone, without `pictures`, is also asked in plain text, as
    by evaluation harnesses: its tokenizer opens a text as the checkpoint's does.
    """
    from transformers import PreTrainedTokenizerFast

    source = load_tokenizer(checkpoint)
    bos = opening(source, template)
    if not source.is_fast:
        from ..llm.internlm2_tokenizer import as_plain_fast

        source = as_plain_fast(source)
    backend = source.backend_tokenizer
    if pictures:
        backend.post_processor = _nothing_added()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", "attention_mask"],  # `generate` refuses token_type_ids
        model_max_length=source.model_max_length,
        padding_side="left",  # what is generated goes on at the right
        clean_up_tokenization_spaces=False,
        **source.special_tokens_map,
    )
    if pictures:
        tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    tokenizer.chat_template = training_template(tokenizer, template, bos, system, pictures)
    return tokenizer


def training_template(tokenizer: Any, template: Template, bos: str, system: str = "", pictures: bool = True) -> str:
    """The chat template of a training, for its tokenizer; `bos` is the text that opens a conversation."""
    space = "" if template.plain else first_space(tokenizer)
    eos = tokenizer.eos_token or ""
    return jinja(template, bos=bos, system=system, space=space, eos=eos, pictures=pictures)


def first_space(tokenizer: Any) -> str:
    """What makes of a word inside a text the tokens that it has alone."""
    ids = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    alone = ids("word")
    for space in ("", " "):
        if ids(f"\n{space}word")[-len(alone) :] == alone:
            return space
    raise ExportError("the tokenizer gives a word other tokens in a text than alone: no chat template can be written")


def _nothing_added() -> Any:
    from tokenizers.processors import TemplateProcessing

    return TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])


def image_settings(processor: Any, square: bool) -> dict[str, Any]:
    """preprocessor_config.json of what training did with a picture.

    Padded (`square`), it names the class that can pad: transformers has it since 4.49, older ones stop at its name.
    Nothing is cropped: a square that is resized by its short edge has its size, and whoever loads these settings
    with CLIP's own class, which cannot pad, gets a picture that the model refuses, and not its middle.
    """
    settings: dict[str, Any] = {**processor.to_dict(), "processor_class": "LlavaProcessor"}
    if square:
        settings |= {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "do_center_crop": False}
    return settings


def write_processor(folder: Path, tokenizer: Any, image_processor: Any, vision: Any, square: bool) -> None:
    """Write tokenizer, chat template and image settings into a folder that is being made.

    Args:
        folder: where.
        tokenizer: of `engine_tokenizer`.
        image_processor: training's.
        vision: the visual encoder's config.
        square: whether training padded.
    """
    tokenizer.save_pretrained(folder)
    _write(folder / PREPROCESSOR, image_settings(image_processor, square))
    _write(
        folder / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "image_token": IMAGE_TOKEN,
            "num_additional_image_tokens": 1,  # CLS, which the strategy `default` takes away again
            "patch_size": vision.patch_size,
            "vision_feature_select_strategy": "default",
        },
    )
    # The processor's own; that of the tokenizer stands in tokenizer_config.json.
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
