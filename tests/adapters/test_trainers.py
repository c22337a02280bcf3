"""MosLoraConfig in the trainers that people use: transformers' Trainer and TRL's SFTTrainer, on a Qwen2.5-VL.

Random weights. They need newer packages than XTuner takes: `scripts/test_engines.sh` runs this file, in an environment
of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

trl = pytest.importorskip("trl", reason="TRL wants a newer transformers than XTuner takes: scripts/test_engines.sh")

from datasets import Dataset  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import (  # noqa: E402
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Trainer,
    TrainingArguments,
)

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter  # noqa: E402

SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COLOURS = {"red": (200, 0, 0), "blue": (0, 0, 200)}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@pytest.fixture(scope="module")
def processor() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["what colour is it"], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )
    images = Qwen2VLImageProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 56 * 56}, patch_size=14)
    return Qwen2_5_VLProcessor(
        image_processor=images, tokenizer=fast, video_processor=Qwen2VLVideoProcessor(), chat_template=TEMPLATE
    )


def build(processor: Any) -> Any:
    ids = {name: processor.tokenizer.convert_tokens_to_ids(name) for name in SPECIALS}
    text = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": len(processor.tokenizer), "max_position_embeddings": 512,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "initializer_range": 0.3,
    }  # fmt: skip
    vision = {
        "depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4, "out_hidden_size": 64,
        "patch_size": 14, "fullatt_block_indexes": [1], "window_size": 56,
    }  # fmt: skip
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
    )


def conversations() -> Dataset:
    def row(name: str, rgb: tuple[int, int, int]) -> dict[str, Any]:
        question = [{"type": "image"}, {"type": "text", "text": "what colour is it"}]
        said = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": [{"type": "text", "text": name}]},
        ]
        return {"images": [Image.new("RGB", (56, 56), rgb)], "messages": said}

    return Dataset.from_list([row(name, rgb) for name, rgb in COLOURS.items()] * 8)


def inputs(processor: Any) -> dict[str, Any]:
    row = conversations()[0]
    text = processor.apply_chat_template(row["messages"], tokenize=False)
    return dict(processor(text=[text], images=row["images"], return_tensors="pt"))


@torch.no_grad()
def logits(model: Any, processor: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(**inputs(processor)).logits
    return found


def check(trained: Any, folder: Path, processor: Any, tmp_path: Path) -> None:
    """What was saved loads, folds, and computes what was trained."""
    wanted = logits(trained, processor)
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "MOSLORA"
    mixers = [weight for name, weight in load_file(folder / "adapter_model.safetensors").items() if "lora_AB" in name]
    assert len(mixers) == 4  # q and v of two layers
    assert all(not torch.equal(mixer, torch.eye(8)) for mixer in mixers)
    assert torch.equal(logits(PeftModel.from_pretrained(build(processor), str(folder)), processor), wanted)
    plain = PeftModel.from_pretrained(build(processor), str(fold_adapter(folder, tmp_path / "plain")))
    assert type(plain.peft_config["default"]) is LoraConfig
    assert (logits(plain, processor) - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (logits(build(processor), processor) - wanted).abs().max() > 1e-3


def test_trl_trains_saves_and_resumes(processor: Any, tmp_path: Path) -> None:
    def trainer(steps: int) -> Any:
        settings = trl.SFTConfig(
            output_dir=str(tmp_path / "out"), max_steps=steps, save_steps=4, per_device_train_batch_size=2,
            learning_rate=2e-2, lr_scheduler_type="constant", logging_steps=1, use_cpu=True, bf16=False,
            report_to=[], max_length=None, seed=1,
        )  # fmt: skip
        return trl.SFTTrainer(
            model=build(processor),
            args=settings,
            train_dataset=conversations(),
            processing_class=processor,
            peft_config=MosLoraConfig(**LORA),
        )

    whole = trainer(8)
    whole.train()
    losses = [line["loss"] for line in whole.state.log_history if "loss" in line]
    assert losses[-1] < losses[0] - 0.1
    check(whole.model, tmp_path / "out" / "checkpoint-8", processor, tmp_path)
    again = trainer(8)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    assert torch.equal(logits(again.model, processor), logits(whole.model, processor))


def test_transformers_trainer_trains_and_saves(processor: Any, tmp_path: Path) -> None:
    batch = inputs(processor)
    batch["labels"] = batch["input_ids"].clone()
    model = get_peft_model(build(processor), MosLoraConfig(**LORA))
    settings = TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=6, save_steps=6, per_device_train_batch_size=1,
        learning_rate=2e-2, logging_steps=1, use_cpu=True, report_to=[], remove_unused_columns=False,
    )  # fmt: skip
    rows = [{"row": 0}] * 8
    trainer = Trainer(model=model, args=settings, train_dataset=rows, data_collator=lambda _: batch)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0] - 0.1
    check(model, tmp_path / "out" / "checkpoint-6", processor, tmp_path)
