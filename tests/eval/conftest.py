"""A random LLaVA of a few thousand weights in the exporter's form, and small VLMEvalKit tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_tables import circular_rows, mme_rows, png, vqa_rows, write_tsv

INSTRUCTION = (
    "<|start_header_id|>user<|end_header_id|>\n\n{input}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<image>",
    "<pad>",
]


def make_tokenizer(folder: Path) -> int:
    """A byte-level BPE trained on a few words; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["which digit is the one on the left", "yes no answer"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[-1]
    )
    fast.save_pretrained(folder)
    return len(fast)


def make_export(folder: Path, *, name: str = "tiny", seed: int = 0, width: int = 32) -> Path:
    """Write a random export: `width` hidden, 2 layers, image 48 px in patches of 8."""
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Llava

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_tokenizer(folder)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=48,
        patch_size=8,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=6,
        initializer_range=0.4,
    )
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision,
        text,
        image_token_index=5,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=36,
    )
    Llava(config).save_pretrained(folder)
    crop = {"height": 48, "width": 48}
    CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=crop).save_pretrained(folder)
    form = {
        "format": 1,
        "kind": "hf-llava",
        "name": name,
        "system": "",
        "bos": True,
        "pad_image_to_square": True,
        "image_token": "<image>",
        "template": {
            "SYSTEM": "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
            "INSTRUCTION": INSTRUCTION,
            "STOP_WORDS": ["<|eot_id|>"],
        },
    }
    (folder / "moslora_export.json").write_text(json.dumps(form))
    return folder


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the four Digits benchmarks, a few questions each."""
    root = tmp_path_factory.mktemp("lmu")
    write_tsv(root / "DigitsMMBench_EN.tsv", circular_rows())
    write_tsv(root / "DigitsMMBench_CN.tsv", circular_rows())
    write_tsv(root / "DigitsMME.tsv", mme_rows())
    write_tsv(root / "DigitsTextVQA.tsv", vqa_rows())
    return root


@pytest.fixture(scope="session")
def large_data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tables with several hundred questions, which keep the tiny model busy for some seconds."""
    root = tmp_path_factory.mktemp("large")
    for name in ("DigitsMMBench_EN", "DigitsMMBench_CN"):
        write_tsv(root / f"{name}.tsv", circular_rows(repeats=20))
    write_tsv(root / "DigitsMME.tsv", mme_rows())
    write_tsv(root / "DigitsTextVQA.tsv", vqa_rows())
    return root


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random export."""
    return make_export(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def new_export() -> Callable[..., Path]:
    """The function that makes another export: (folder, name=..., seed=..., width=...)."""
    return make_export


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """The function that makes a PNG of noise: (seed, (width, height))."""
    return png
