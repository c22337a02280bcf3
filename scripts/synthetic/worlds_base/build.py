"""Make the base: the digits' language model, which can read lettered options, with words of the small worlds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from moslora_xtuner.digits_base import language_model

from .texts import Text, drill, form, question

SPECIAL = ("<|begin_of_text|>", "<|eot_id|>", "<pad>")
READ = 0.02
"""Weight of a token that is only read, beside one that is learnt."""


def make_tokenizer(seed: int) -> Any:
    """A byte-level BPE in which the worlds' words are single tokens."""
    rng = Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [make(rng) for make in (drill, question, form) for _ in range(2000)]
    tokenizer.train_from_iterator(["".join(piece for piece, _ in text.pieces) for text in texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2]
    )


def start(tokenizer: Any) -> Any:
    """The digits' language model under another tokenizer: tokens of the same text keep their weights."""
    model = LlamaForCausalLM.from_pretrained(language_model("digits"), torch_dtype=torch.float32)
    old = AutoTokenizer.from_pretrained(language_model("digits")).get_vocab()
    places = {number: old[text] for text, number in tokenizer.get_vocab().items() if text in old}
    for matrix in (model.get_input_embeddings(), model.get_output_embeddings()):
        before = matrix.weight.data
        after = torch.randn(len(tokenizer), before.shape[1]) * before.std()
        for new, place in places.items():
            after[new] = before[place]
        matrix.weight = torch.nn.Parameter(after)
    model.get_input_embeddings().num_embeddings = model.get_output_embeddings().out_features = len(tokenizer)
    model.config.vocab_size = len(tokenizer)
    for name, word in (("bos", SPECIAL[0]), ("eos", SPECIAL[1]), ("pad", SPECIAL[2])):
        number = tokenizer.convert_tokens_to_ids(word)
        setattr(model.config, f"{name}_token_id", number)
        setattr(model.generation_config, f"{name}_token_id", number)
    return model


def rows(tokenizer: Any, texts: Sequence[Text]) -> list[tuple[list[int], list[float]]]:
    """Ids and the weight of each in the loss."""
    flat = [piece for text in texts for piece, _ in text.pieces]
    encoded = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    made = []
    for text in texts:
        ids, weights = [tokenizer.bos_token_id], [0.0]
        for _, learnt in text.pieces:
            piece = next(encoded)
            ids += piece
            weights += [1.0 if learnt else READ] * len(piece)
        made.append(([*ids, tokenizer.eos_token_id], [*weights, READ]))
    return made


def padded(batch: Sequence[tuple[list[int], list[float]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and weights, (rows, longest)."""
    width = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in batch])
    return ids, torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in batch])


def batches(tokenizer: Any, rng: Random, share: float, tokens: int) -> Any:
    """Batches without end, each of one kind of text and of at most so many tokens; `share` of them drills."""
    waiting: dict[Callable[[Random], Text], list[tuple[list[int], list[float]]]] = {}
    while True:
        make = drill if rng.random() < share else form if rng.random() < 0.15 else question
        if len(waiting.get(make, [])) < 200:
            waiting[make] = waiting.get(make, []) + rows(tokenizer, [make(rng) for _ in range(400)])
        longest = max(len(ids) for ids, _ in waiting[make])
        count = max(1, tokens // longest)
        yield make, padded(waiting[make][:count], tokenizer.pad_token_id)
        waiting[make] = waiting[make][count:]


def build(out: Path, *, steps: int, rate: float, tokens: int, seed: int, tell: Callable[[str], None]) -> None:
    """Train on the base's texts, first the drills, and save model and tokenizer to a folder."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(seed)
    model = start(tokenizer)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    rng, begun = Random(seed), time.perf_counter()
    right: dict[str, list[float]] = {}
    first, second = (batches(tokenizer, rng, share, tokens) for share in (0.8, 0.1))
    for step in range(steps):
        make, (ids, weights) = next(first if step < steps // 3 else second)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 30) * (1 - 0.9 * step / steps)
        logits = model(input_ids=ids).logits[:, :-1]
        target, weight = ids[:, 1:], weights[:, 1:]
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")
        ((losses * weight).sum() / weight.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        learnt = weight == 1.0
        hit = (logits.argmax(-1) == target)[learnt].float().mean().item()
        right.setdefault(make.__name__, []).append(hit)
        if step % 50 == 49:
            shares = ", ".join(f"{name} {sum(found[-20:]) / len(found[-20:]):.2f}" for name, found in right.items())
            tell(f"step {step + 1}: {time.perf_counter() - begun:.0f} s, right {shares}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
