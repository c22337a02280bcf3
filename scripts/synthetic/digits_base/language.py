"""One stage of the curriculum: the language model and the projector learn, the visual encoder stands still."""

from __future__ import annotations

import math
import time

import torch
from torch import nn
from torch.utils.data import DataLoader

from .curriculum import KINDS, Corpus
from .model import Base
from .optimisation import Optimizers, average_gradients

WINDOW = 100
"""Steps over which accuracies are counted and printed."""


class Counts:
    """Right answers by kind, letters and other tokens apart, summed over the processes."""

    def __init__(self, letters: list[int]) -> None:
        self.letters = torch.tensor(letters)
        self.values = torch.zeros(2, len(KINDS), 2)

    def add(self, logits: torch.Tensor, labels: torch.Tensor, kinds: torch.Tensor) -> None:
        """Count n labelled places: logits (n, vocabulary), labels and kinds (n,)."""
        is_letter = torch.isin(labels, self.letters).long()
        right = (logits.argmax(-1) == labels).float()
        for values, part in ((right, 0), (torch.ones_like(right), 1)):
            self.values[part].index_put_((kinds, is_letter), values, accumulate=True)

    def take(self) -> dict[str, tuple[float, float]]:
        """Accuracy on letters and on other tokens of every kind that was seen; starts again from nothing."""
        torch.distributed.all_reduce(self.values)
        shares = (self.values[0] / self.values[1]).tolist()
        self.values.zero_()
        parts = {kind: (letters, rest) for kind, (rest, letters) in zip(KINDS, shares, strict=True)}
        return {kind: part for kind, part in parts.items() if not all(map(math.isnan, part))}  # 0 / 0 is nan


def train_stage(model: Base, corpus: Corpus, rate: float) -> int:
    """Train until the stage's kind is mastered or its steps are over; returns the steps taken."""
    # Muon's steps do not shrink with the gradient: while the words are learned they would wipe out the features.
    model.visual_encoder.requires_grad_(False)
    stage = corpus.stage
    optimizers = Optimizers(model, rate)
    counts = Counts([corpus.tokenizer.encode(letter, add_special_tokens=False)[-1] for letter in "ABCD"])
    # Forked: a spawned worker would import torch and transformers again for every stage.
    ahead = min(8, stage.steps)
    loader = DataLoader(corpus, batch_size=None, num_workers=1, prefetch_factor=ahead, multiprocessing_context="fork")
    batches = iter(loader)
    start = time.time()
    for step in range(1, stage.steps + 1):
        batch = next(batches)
        kinds = batch.pop("kinds")
        logits, labels, places = model(**batch)
        nn.functional.cross_entropy(logits, labels).backward()
        average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        remaining = (stage.steps - step + 1) / (stage.steps / 2) if stage.decay else 1.0
        optimizers.step(stage.rate * min(1.0, step / 100, remaining))
        counts.add(logits.detach(), labels, kinds[:, None].expand_as(places)[places])
        if step % WINDOW == 0 or step == stage.steps:
            seen = counts.take()
            if torch.distributed.get_rank() == 0:
                parts = ", ".join(f"{kind} {letters:.3f} {rest:.3f}" for kind, (letters, rest) in seen.items())
                print(f"{stage.name} {step}/{stage.steps} {parts} | {time.time() - start:.0f} s", flush=True)
            if stage.mastered:
                kind, wanted = stage.mastered
                letters, rest = seen[kind]
                if (rest if math.isnan(letters) else letters) >= wanted:
                    return step
    return stage.steps
