"""Small checkpoints of the classes, layouts and file formats that the recipes for large models load, and data."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

WIDTH = 128
INTERNLM2_WIDTH = 512  # no layer may be smaller than the recipes' rank
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "yellow": (230, 210, 60)}


def make_llama3(folder: Path) -> Path:
    """A LlamaForCausalLM with grouped-query attention and a tokenizer with LLaMA-3's special tokens."""
    tokenizer = make_llama3_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_llama3_tokenizer(folder: Path) -> Any:
    """The packaged base model's tokenizer, which has LLaMA-3's special tokens."""
    tokenizer = AutoTokenizer.from_pretrained(str(files("moslora_xtuner") / "assets" / "digits_base" / "llm"))
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_internlm2_tokenizer(folder: Path, prefix: bool = False) -> int:
    """As published, a tokenizer whose class is remote code (not there to be run); the size of its vocabulary."""
    vocabulary = _make_sentencepiece(folder / "tokenizer.model", prefix)
    names = ["<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>"]
    added = {0: "<unk>", 1: "<s>", 2: "</s>"} | {vocabulary - 6 + index: name for index, name in enumerate(names)}
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    tokenizer = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": {str(index): {"content": name, **plain} for index, name in added.items()},
        "additional_special_tokens": names[::-1],
        "auto_map": {
            "AutoTokenizer": [
                "tokenization_internlm2.InternLM2Tokenizer",
                "tokenization_internlm2_fast.InternLM2TokenizerFast",
            ]
        },
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "decode_with_prefix_space": False,
        "eos_token": "</s>",
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "</s>",
        "sp_model_kwargs": None,
        "tokenizer_class": "InternLM2Tokenizer",
        "unk_token": "<unk>",
        "chat_template": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return vocabulary


def make_internlm2(folder: Path, prefix: bool = False) -> Path:
    """An InternLM2ForCausalLM and its tokenizer."""
    from xtuner._lite.modelings.internlm2 import InternLM2Config, InternLM2ForCausalLM

    folder.mkdir(parents=True)
    vocabulary = make_internlm2_tokenizer(folder, prefix)
    torch.manual_seed(3)
    config = InternLM2Config(
        vocab_size=vocabulary,
        hidden_size=INTERNLM2_WIDTH,
        intermediate_size=INTERNLM2_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=0.05,
        bias=False,
        rope_theta=1e6,
        rope_scaling={"type": "dynamic", "factor": 2.0},
        auto_map={
            "AutoConfig": "configuration_internlm2.InternLM2Config",
            "AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM",
        },
    )
    InternLM2ForCausalLM(config).save_pretrained(folder)
    return folder


def _make_sentencepiece(file: Path, prefix: bool) -> int:
    """A byte-pair model with byte fallback whose last pieces are unused ones, as InternLM2's; its size."""
    import sentencepiece
    from transformers.convert_slow_tokenizer import import_protobuf

    colours = " ".join(COLOURS)
    texts = [f"What colour is this? It is {c}. Say {c}." for c in COLOURS]
    texts += ["def f(x):\n    return x", "The cat sat on the mat, twice.", "你好，世界", colours]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=trained,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    proto = import_protobuf().ModelProto()
    proto.ParseFromString(trained.getvalue())
    for index in range(10):
        piece = proto.pieces.add()
        piece.piece, piece.score, piece.type = f"[UNUSED_TOKEN_{index}]", 0.0, piece.USER_DEFINED
    file.write_bytes(proto.SerializeToString())
    return len(proto.pieces)


def make_clip(folder: Path, edge: int = 336) -> Path:
    """A CLIPVisionModel with the real one's 336 pixels and patches of 14, so 576 features, and its processor.

    With another `edge` (in pixels, of 14 each) it has fewer, which a CPU is done with sooner.
    """
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=edge,
        patch_size=14,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": edge}, "crop_size": {"height": edge, "width": edge}}
    CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


def make_projector(folder: Path, width: int = WIDTH) -> Path:
    """A two-layer projector as stage 1 leaves it, from the visual encoder's width to a language model's."""
    torch.manual_seed(2)
    shapes = {
        "model.0.weight": (width, WIDTH),
        "model.0.bias": (width,),
        "model.2.weight": (width, width),
        "model.2.bias": (width,),
    }
    folder.mkdir(parents=True)
    save_file({n: torch.randn(shape) * 0.05 for n, shape in shapes.items()}, folder / "model.safetensors")
    return folder


def make_mix(folder: Path, records: int) -> Path:
    """LLaVA-format records about pictures of one colour, every eighth without a picture; returns the JSON."""
    (folder / "images").mkdir(parents=True)
    names = list(COLOURS)
    made = []
    for index in range(records):
        colour = names[index % len(names)]
        question, answer = "What colour is this?", f"It is {colour}."
        record: dict[str, object] = {"id": str(index)}
        if index % 8 == 7:
            question = f"Say {colour}."
        else:
            Image.fromarray(np.full((20, 30, 3), COLOURS[colour], np.uint8)).save(folder / "images" / f"{index}.png")
            record["image"] = f"{index}.png"
            question = f"<image>\n{question}"
        record["conversations"] = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        made.append(record)
    path = folder / "mix.json"
    path.write_text(json.dumps(made))
    return path


def as_llama(model: Any) -> Any:
    """A LlamaForCausalLM with an InternLM2's weights, named and cut as an export writes them."""
    from moslora_xtuner.llm.internlm2_as_llama import llama_config, llama_names

    config = llama_config(model.config)
    config.torch_dtype = model.dtype
    llama = LlamaForCausalLM(config).to(model.dtype)
    llama.load_state_dict(llama_names(model.state_dict(), model.config))
    return llama.eval()
