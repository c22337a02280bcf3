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
import itertools
import json
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

from moslora_xtuner.data.digits.conversations import (
    as_text_only,
    caption_turn,
    letter_drill,
    letter_turns,
    scene_and_turns,
    short_turns,
    with_image,
)
from moslora_xtuner.data.digits.scenes import CANVAS, INKS, PAPERS, Scene, draw, sample_scene
from moslora_xtuner.data.instructions import IMAGE_TOKEN

MUON = 2.0
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
KINDS = ("caption", "drill", "letters", "short", "questions")
SHARES = (
    (0, (0.0, 1.0, 0.0, 0.0, 0.0)),
    (12_000, (0.35, 0.15, 0.25, 0.25, 0.0)),
    (32_000, (0.22, 0.03, 0.1, 0.15, 0.5)),
)
"""From which record on (of each process) how often each kind is drawn: letters, then words, then questions."""
Record = tuple[int, list[tuple[str, str]], np.ndarray | None]
Encoded = tuple[int, list[int], list[int], np.ndarray | None]


def records(rng: np.random.Generator, processor: CLIPImageProcessor) -> Iterator[Record]:
    """Endless conversations: captions of pictures, letters of options, and questions about captions."""
    for number in itertools.count():
        shares = next(shares for start, shares in reversed(SHARES) if number >= start)
        kind = int(rng.choice(len(KINDS), p=shares))
        if KINDS[kind] == "caption":
            scene = sample_scene(rng, "train")
            pixels = processor(draw(scene), return_tensors="np")["pixel_values"][0]
            yield kind, with_image([caption_turn(scene, int(rng.integers(2)))]), pixels
        elif KINDS[kind] == "drill":
            yield kind, letter_drill(rng, 12), None
        elif KINDS[kind] == "letters":
            yield kind, letter_turns(rng, 5), None
        elif KINDS[kind] == "short":
            yield kind, as_text_only(*short_turns(rng, 6)), None
        else:
            yield kind, as_text_only(*scene_and_turns(rng, "train", turns=3, letters=0.6)), None


def train_tokenizer(vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the corpus, with LLaMA-3's special tokens and chat template; one token a digit."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    rng = np.random.default_rng(seed)
    corpus = []
    for _ in range(4000):
        scene, turns = scene_and_turns(rng, "train", turns=3)
        corpus += [text for turn in [*as_text_only(scene, turns), caption_turn(scene, 0)] for text in turn]
        corpus += [*caption_turn(scene, 1), *letter_drill(rng, 1)[0]]
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

    def __init__(self, tokenizer: PreTrainedTokenizerFast, tokens: int, seed: int) -> None:
        self.tokenizer, self.tokens, self.seed = tokenizer, tokens, seed
        self.processor = image_processor()

    def encode(self, turns: list[tuple[str, str]], plain: bool) -> tuple[list[int], list[int]]:
        """Token ids and labels, in LLaMA-3's template unless plain; only the assistant's turns carry a loss."""
        ids, labels = [self.tokenizer.bos_token_id], [IGNORE]
        for human, answer in turns:
            prompt = (
                human
                if plain
                else (
                    f"<|start_header_id|>user<|end_header_id|>\n\n{human}<|eot_id|>"
                    "<|start_header_id|>assistant<|end_header_id|>\n\n"
                )
            )
            for i, part in enumerate(prompt.split(IMAGE_TOKEN)):
                if i:
                    ids += [IMAGE_ID] * (IMAGE // PATCH) ** 2
                ids += self.tokenizer.encode(part, add_special_tokens=False)
            labels += [IGNORE] * (len(ids) - len(labels))
            reply = self.tokenizer.encode(answer if plain else f"{answer}<|eot_id|>", add_special_tokens=False)
            ids += reply
            labels += reply
        return ids, labels

    def collate(self, group: list[Encoded]) -> dict[str, torch.Tensor]:
        ids = pad_sequence([torch.tensor(g[1]) for g in group], True, self.tokenizer.pad_token_id)
        labels = pad_sequence([torch.tensor(g[2]) for g in group], True, IGNORE)
        pixels = [torch.from_numpy(g[3]) for g in group if g[3] is not None]
        stacked = torch.stack(pixels) if pixels else torch.zeros((0, 3, IMAGE, IMAGE))
        return {"ids": ids, "labels": labels, "pixels": stacked, "kinds": torch.tensor([g[0] for g in group])}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(self.seed)
        source = records(rng, self.processor)
        while True:
            drawn = [next(source) for _ in range(256)]
            pool = [(kind, *self.encode(turns, KINDS[kind] == "drill"), pixels) for kind, turns, pixels in drawn]
            pool.sort(key=lambda record: len(record[1]))
            batches: list[list[Encoded]] = [[]]
            for record in pool:
                if (len(batches[-1]) + 1) * len(record[1]) > self.tokens:
                    batches.append([])
                batches[-1].append(record)
            for place in rng.permutation(len(batches)):
                yield self.collate(batches[place])


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
                image_size=IMAGE, patch_size=PATCH, projection_dim=96, initializer_range=0.04,
            )
        )  # fmt: skip
        self.projector = nn.Sequential(nn.Linear(96, 128), nn.GELU(), nn.Linear(128, 128))

    def forward(self, ids: torch.Tensor, labels: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """The loss of each row, summed over its labelled tokens."""
        embeds = self.llm.get_input_embeddings()(ids.clamp(min=0))
        if len(pixels):
            hidden = self.visual_encoder(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
            features = self.projector(hidden)
            embeds = embeds.masked_scatter((ids == IMAGE_ID).unsqueeze(-1), features.to(embeds.dtype))
        hidden = self.llm.model(inputs_embeds=embeds).last_hidden_state
        # Right padding under a causal mask needs no attention mask, and only labelled places need logits.
        wanted = labels[:, 1:] != IGNORE
        logits = self.llm.lm_head(hidden[:, :-1][wanted])
        losses = nn.functional.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="none")
        return torch.zeros(wanted.shape).masked_scatter(wanted, losses).sum(1)


def attend_in_fp32() -> None:
    """Keep attention in fp32 under autocast: torch 2.11's bf16 attention backward on CPU is three times slower."""
    attend = nn.functional.scaled_dot_product_attention

    def upcast(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: object) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return attend(query.float(), key.float(), value.float(), **options).to(query.dtype)

    nn.functional.scaled_dot_product_attention = upcast


class Optimizers:
    """Muon on the matrices inside, AdamW on the rest."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        outside = ("embed", "lm_head", "heads")
        learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        inner = [p for n, p in learned if p.ndim == 2 and not any(word in n for word in outside)]
        rest = [p for n, p in learned if p.ndim != 2 or any(word in n for word in outside)]
        self.parts = [
            (torch.optim.Muon(inner, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), rate * MUON),
            (torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True), rate),
        ]

    def step(self, share: float) -> None:
        """One step at this share of the peak rates, and the gradients cleared."""
        for optimizer, peak in self.parts:
            optimizer.param_groups[0]["lr"] = peak * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def patch_labels(scene: Scene) -> np.ndarray:
    """For each patch the digit whose square covers its centre, 10 where there is none."""
    side, scale = IMAGE // PATCH, CANVAS / IMAGE
    centres = (np.arange(side) + 0.5) * PATCH * scale
    labels = np.full((side, side), 10)
    for glyph in scene.glyphs:
        across = np.abs(centres - glyph.centre[0]) < scene.size / 2
        down = np.abs(centres - glyph.centre[1]) < scene.size / 2
        labels[np.ix_(down, across)] = glyph.value
    return labels.reshape(-1)


def pretrain_visual_encoder(model: Base, seed: int, scenes: int, steps: int, rate: float, batch: int = 96) -> None:
    """Teach the visual encoder what CLIP's training teaches: which digit each patch shows, ink and paper.

    Linear heads on the features that the projector reads; they are thrown away.
    """
    rng = np.random.default_rng([seed, 1])
    processor = image_processor()
    drawn = [sample_scene(rng, "train") for _ in range(scenes)]
    pixels = torch.cat([processor(draw(scene), return_tensors="pt")["pixel_values"].half() for scene in drawn])
    digits = torch.from_numpy(np.stack([patch_labels(scene) for scene in drawn]))
    inks = torch.tensor([INKS.index(scene.ink) for scene in drawn])
    papers = torch.tensor([PAPERS.index(scene.paper) for scene in drawn])
    heads = nn.ModuleList([nn.Linear(96, 11), nn.Linear(96, len(INKS)), nn.Linear(96, len(PAPERS))])
    taught = nn.ModuleDict({"visual_encoder": model.visual_encoder, "heads": heads})
    optimizers = Optimizers(taught, rate)
    start = time.time()
    for step in range(1, steps + 1):
        chosen = torch.from_numpy(rng.integers(0, scenes, size=batch))
        states = model.visual_encoder(pixels[chosen].float(), output_hidden_states=True).hidden_states
        features = states[-2][:, 1:]
        whole = features.mean(1)
        wanted = digits[chosen].flatten()
        losses = [
            nn.functional.cross_entropy(heads[0](features).flatten(0, 1), wanted),
            nn.functional.cross_entropy(heads[1](whole), inks[chosen]),
            nn.functional.cross_entropy(heads[2](whole), papers[chosen]),
        ]
        torch.stack(losses).sum().backward()
        average_gradients(taught)
        optimizers.step(min(1.0, step / 50, (steps - step + 1) / (steps / 2)))
        if step % 100 == 0 and torch.distributed.get_rank() == 0:
            shown = wanted < 10
            right = (heads[0](features).flatten(0, 1).argmax(1) == wanted)[shown].float().mean()
            print(f"visual encoder {step}/{steps} {right:.3f} of patches, {time.time() - start:.0f} s", flush=True)


def average_gradients(model: nn.Module) -> None:
    """The mean of the processes' gradients; one that a process does not have counts as zero."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = torch._utils._flatten_dense_tensors(grads)
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    for parameter, grad in zip(parameters, torch._utils._unflatten_dense_tensors(flat, grads), strict=True):
        parameter.grad = grad


def pretrain(model: Base, corpus: Corpus, steps: int, rate: float) -> Iterator[int]:
    """Muon on the matrices, AdamW on the rest, bf16 autocast; yields every 500 steps, to save.

    The rate warms up linearly, stays, and falls linearly to zero over the last third.
    """
    # Muon's steps do not shrink with the gradient: while the words are learned they would wipe out the features.
    model.visual_encoder.requires_grad_(False)
    optimizers = Optimizers(model, rate)
    batches = iter(DataLoader(corpus, batch_size=None, num_workers=1, prefetch_factor=8))
    start = time.time()
    sums, counts = torch.zeros(len(KINDS)), torch.zeros(len(KINDS))
    for step in range(1, steps + 1):
        batch = next(batches)
        kinds, tokens = batch.pop("kinds"), (batch["labels"][:, 1:] != IGNORE).sum(1)
        with torch.autocast("cpu", torch.bfloat16):
            losses = model(**batch)
        (losses.sum() / tokens.sum()).backward()
        average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers.step(min(1.0, step / 100, (steps - step + 1) / (steps / 3)))
        sums.index_add_(0, kinds, losses.detach())
        counts.index_add_(0, kinds, tokens.float())
        if step % 200 == 0 or step == steps:
            spent = time.time() - start
            parts = ", ".join(
                f"{kind} {value:.3f}" for kind, value in zip(KINDS, (sums / counts).tolist(), strict=True)
            )
            if torch.distributed.get_rank() == 0:
                print(
                    f"step {step}/{steps} {parts} | {spent:.0f} s, {spent / step * (steps - step):.0f} s left",
                    flush=True,
                )
            sums.zero_()
            counts.zero_()
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


def work(rank: int, args: argparse.Namespace) -> None:
    """One of the processes; the first saves."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    attend_in_fp32()
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{args.port}", rank=rank, world_size=args.processes
    )
    tokenizer = train_tokenizer(args.vocab, args.seed)
    model = Base(len(tokenizer), tokenizer)
    facts: dict[str, object] = {
        "template": "llama3_chat",
        "pad_image_to_square": True,
        "visual_select_layer": -2,
    }
    facts |= {name: getattr(args, name) for name in ("seed", "visual_steps", "steps", "tokens", "processes", "rate")}
    pretrain_visual_encoder(model, 1000 * args.seed + rank, scenes=12_000, steps=args.visual_steps, rate=args.rate)
    corpus = Corpus(tokenizer, args.tokens, 1000 * args.seed + rank)
    for done in pretrain(model, corpus, args.steps, args.rate):
        if rank == 0:
            save(model, tokenizer, args.out, {**facts, "done": done})
    torch.distributed.destroy_process_group()


def main() -> None:
    """Parse the command line and start the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--visual-steps", type=int, default=800)
    parser.add_argument("--tokens", type=int, default=1000, help="in a batch of each process")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=29417, help="on 127.0.0.1, for the processes to meet")
    args = parser.parse_args()
    torch.multiprocessing.spawn(work, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
