"""Build the small base model that DigitsVQA tunes: tokenizer, LLaMA, CLIP ViT and projector, from nothing.

    python scripts/build_digits_base.py -o moslora_xtuner/assets/digits_base

The model learns two things and nothing else: to caption pictures of train digits (what stage 1 of LLaVA-1.5
teaches), and to answer questions about captions, with the option's letter where options are given (the
language model's part). It never sees a question about a picture: joining the two is what stage 2 adapts.

The result is deterministic for a seed and a machine. It is written in fp16, in the layout of real
checkpoints: `llm/`, `visual_encoder/` and `projector/`, each with config and safetensors.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, IterableDataset
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from moslora_xtuner.data.digits.conversations import as_text_only, caption_turn, scene_and_turns, with_image
from moslora_xtuner.data.digits.scenes import draw, sample_scene
from moslora_xtuner.data.instructions import IMAGE_TOKEN

IMAGE, PATCH, IGNORE, IMAGE_ID = 48, 8, -100, -200
SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|finetune_right_pad_id|>",
)  # fmt: skip
LLAMA3_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
Record = tuple[list[tuple[str, str]], np.ndarray | None]


def records(rng: np.random.Generator, processor: CLIPImageProcessor) -> Iterator[Record]:
    """Endless conversations: two in five are captions of a picture, the others questions about a caption."""
    while True:
        if rng.random() < 0.4:
            scene = sample_scene(rng, "train")
            pixels = processor(draw(scene), return_tensors="np")["pixel_values"][0]
            yield with_image([caption_turn(scene, int(rng.integers(2)))]), pixels
        else:
            scene, turns = scene_and_turns(rng, "train", turns=3)
            yield as_text_only(scene, turns), None


def train_tokenizer(vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the corpus, with LLaMA-3's special tokens and chat template; one token a digit."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    rng = np.random.default_rng(seed)
    corpus = []
    for _ in range(4000):
        scene, turns = scene_and_turns(rng, "train", turns=3)
        corpus += [text for turn in as_text_only(scene, turns) + [caption_turn(scene, 0)] for text in turn]
        corpus += list(caption_turn(scene, 1))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        sorted(corpus),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bos = SPECIAL_TOKENS[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token="<|eot_id|>", pad_token="<|finetune_right_pad_id|>",
        model_max_length=1024, chat_template=LLAMA3_CHAT_TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip


class Corpus(IterableDataset):
    """Tokenised batches of similar length, made on the fly."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, batch: int, seed: int) -> None:
        self.tokenizer, self.batch, self.seed = tokenizer, batch, seed
        self.processor = image_processor()

    def encode(self, turns: list[tuple[str, str]]) -> tuple[list[int], list[int]]:
        """Token ids and labels in LLaMA-3's template; only the assistant's turns carry a loss."""
        ids, labels = [self.tokenizer.bos_token_id], [IGNORE]
        for human, answer in turns:
            prompt = (
                f"<|start_header_id|>user<|end_header_id|>\n\n{human}<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n"
            )
            for i, part in enumerate(prompt.split(IMAGE_TOKEN)):
                if i:
                    ids += [IMAGE_ID] * (IMAGE // PATCH) ** 2
                ids += self.tokenizer.encode(part, add_special_tokens=False)
            labels += [IGNORE] * (len(ids) - len(labels))
            reply = self.tokenizer.encode(f"{answer}<|eot_id|>", add_special_tokens=False)
            ids += reply
            labels += reply
        return ids, labels

    def collate(self, group: list[tuple[list[int], list[int], np.ndarray | None]]) -> dict[str, torch.Tensor]:
        ids = pad_sequence([torch.tensor(g[0]) for g in group], True, self.tokenizer.pad_token_id)
        labels = pad_sequence([torch.tensor(g[1]) for g in group], True, IGNORE)
        pixels = [torch.from_numpy(g[2]) for g in group if g[2] is not None]
        shape = (0, 3, IMAGE, IMAGE)
        return {"ids": ids, "labels": labels, "pixels": torch.stack(pixels) if pixels else torch.zeros(shape)}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(self.seed)
        source = records(rng, self.processor)
        while True:
            pool = [(*self.encode(turns), pixels) for turns, pixels in (next(source) for _ in range(8 * self.batch))]
            pool.sort(key=lambda record: len(record[0]))
            for start in rng.permutation(8) * self.batch:
                yield self.collate(pool[start : start + self.batch])


def image_processor() -> CLIPImageProcessor:
    """CLIP's own preprocessing at 48 pixels."""
    return CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size={"height": IMAGE, "width": IMAGE})


class Base(nn.Module):
    """LLaVA's forward, as plain as can be: the projected patch features stand in the image's places."""

    def __init__(self, vocab_size: int, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.llm = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab_size, hidden_size=128, intermediate_size=384, num_hidden_layers=6,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, rms_norm_eps=1e-5,
                bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id, initializer_range=0.04,
            )
        )  # fmt: skip
        self.visual_encoder = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=96, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
                image_size=IMAGE, patch_size=PATCH, projection_dim=96, initializer_range=0.04, initializer_factor=2.0,
            )
        )  # fmt: skip
        self.projector = nn.Sequential(nn.Linear(96, 128), nn.GELU(), nn.Linear(128, 128))

    def forward(self, ids: torch.Tensor, labels: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        embeds = self.llm.get_input_embeddings()(ids.clamp(min=0))
        if len(pixels):
            hidden = self.visual_encoder(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
            features = self.projector(hidden)
            embeds = embeds.masked_scatter((ids == IMAGE_ID).unsqueeze(-1), features.to(embeds.dtype))
        hidden = self.llm.model(inputs_embeds=embeds).last_hidden_state
        # Right padding under a causal mask needs no attention mask, and only labelled places need logits.
        wanted = labels[:, 1:] != IGNORE
        logits = self.llm.lm_head(hidden[:, :-1][wanted])
        return nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted])


def attend_in_fp32() -> None:
    """Keep attention in fp32 under autocast: torch 2.11's bf16 attention backward on CPU is three times slower."""
    attend = nn.functional.scaled_dot_product_attention

    def upcast(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: object) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return attend(query.float(), key.float(), value.float(), **options).to(query.dtype)

    nn.functional.scaled_dot_product_attention = upcast


def pretrain(model: Base, corpus: Corpus, steps: int, rate: float) -> Iterator[int]:
    """AdamW with a linear warm-up and a cosine to zero, bf16 autocast; yields every 500 steps, to save."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.98), fused=True
    )
    warm = max(1, steps // 30)
    batches = iter(DataLoader(corpus, batch_size=None, num_workers=1, prefetch_factor=8))
    start, running = time.time(), 0.0
    for step in range(1, steps + 1):
        share = (step - warm) / max(1, steps - warm)
        for group in optimizer.param_groups:
            group["lr"] = rate * (step / warm if step <= warm else 0.5 * (1 + math.cos(math.pi * share)))
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**next(batches))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running += loss.item()
        if step % 100 == 0 or step == steps:
            spent = time.time() - start
            left = spent / step * (steps - step)
            print(f"step {step}/{steps} loss {running / 100:.4f} {spent:.0f} s, {left:.0f} s left", flush=True)
            running = 0.0
        if step % 500 == 0 or step == steps:
            yield step


def save(model: Base, tokenizer: PreTrainedTokenizerFast, out: Path, facts: dict[str, object]) -> None:
    """Write `llm/`, `visual_encoder/` and `projector/` in fp16, with the facts of the run beside them."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    attend_in_fp32()
    tokenizer = train_tokenizer(args.vocab, args.seed)
    model = Base(len(tokenizer), tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    facts = {"seed": args.seed, "steps": args.steps, "batch": args.batch, "rate": args.rate}
    for done in pretrain(model, Corpus(tokenizer, args.batch, args.seed), args.steps, args.rate):
        save(model, tokenizer, args.out, {**facts, "done": done})


if __name__ == "__main__":
    main()
