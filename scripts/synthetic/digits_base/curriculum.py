"""What the language model is taught, in which order, and when it goes on.

Reading options is learned in small steps, each of which starts from one that is mastered: a new form given in
large doses to a model at chance wipes out the steps before it. The accuracy on letters decides when to go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset
from transformers import PreTrainedTokenizerFast

from moslora_xtuner.data.digits.conversations import Turn, as_text_only, caption_turn, scene_and_turns, with_image
from moslora_xtuner.data.digits.scenes import draw, sample_scene

from .drills import digit_drill, gap_drill, hard_turns, letter_drill, letter_turns, short_turns, told_turns
from .model import IMAGE, IMAGE_TOKENS, image_processor
from .words import IGNORE, Encoder

KINDS = ("digits", "drill", "gap", "chat", "letters", "short", "told", "hard", "questions", "caption")
"""Drills on digits and on words without a template, with parts of it, in the template; sentences about letters;
questions about captions: open, open and then lettered, those that take a thought, all as benchmarks put them;
captions of pictures."""
PLAIN = ("digits", "drill", "gap")


@dataclass(frozen=True)
class Stage:
    """A mixture of kinds, taught until one of them is mastered.

    Attributes:
        shares: how often each kind is drawn.
        steps: at most.
        mastered: the kind and the accuracy on its letters (on its words, if it has none) at which the stage ends.
        rate: share of the peak rate.
        decay: whether the rate falls to zero over the last half.
    """

    name: str
    shares: dict[str, float]
    steps: int
    mastered: tuple[str, float] | None = None
    rate: float = 1.0
    decay: bool = False


CURRICULUM = (
    Stage("letters of digits", {"digits": 1.0}, 2000, ("digits", 0.96)),
    Stage("letters of words", {"digits": 0.1, "drill": 0.9}, 3000, ("drill", 0.95)),
    Stage("letters at a distance", {"digits": 0.1, "drill": 0.3, "gap": 0.6}, 3000, ("gap", 0.95), rate=0.5),
    Stage("letters in the template", {"drill": 0.1, "gap": 0.3, "chat": 0.6}, 3000, ("chat", 0.95), rate=0.3),
    Stage("letters in sentences", {"chat": 0.4, "letters": 0.6}, 3000, ("letters", 0.85), rate=0.3),
    Stage(
        "open questions",
        {"chat": 0.05, "letters": 0.2, "short": 0.35, "told": 0.4},
        3000,
        ("short", 0.9),
        rate=0.3,
    ),
    Stage(
        "questions with letters",
        {"letters": 0.1, "short": 0.1, "told": 0.3, "questions": 0.5},
        5000,
        ("questions", 0.65),
        rate=0.3,
    ),
    Stage(
        "with captions",
        {"letters": 0.05, "short": 0.1, "told": 0.15, "questions": 0.45, "caption": 0.25},
        4000,
        rate=0.5,
        decay=True,
    ),
    Stage(
        "hard questions",
        {"letters": 0.05, "told": 0.1, "hard": 0.5, "questions": 0.2, "caption": 0.15},
        2800,
        rate=0.5,
        decay=True,
    ),
    # The stage before leaves the easy questions behind: without this one, counts and papers tune badly.
    Stage(
        "all questions",
        {"letters": 0.05, "short": 0.1, "hard": 0.1, "questions": 0.6, "caption": 0.15},
        1200,
        rate=0.4,
        decay=True,
    ),
)

Encoded = tuple[int, list[int], list[int], np.ndarray | None]


class Corpus(IterableDataset):
    """Endless tokenised batches of similar length, made on the fly."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stage: Stage, tokens: int, seed: list[int]) -> None:
        self.tokenizer, self.stage, self.tokens, self.seed = tokenizer, stage, tokens, seed
        self.processor = image_processor()

    def record(self, rng: np.random.Generator, kind: str) -> tuple[list[Turn], np.ndarray | None]:
        """One conversation of a kind, and its pixels if it has any."""
        if kind == "caption":
            scene = sample_scene(rng, "train")
            pixels = self.processor(draw(scene), return_tensors="np")["pixel_values"][0]
            return with_image([caption_turn(scene, int(rng.integers(2)))]), pixels
        if kind == "digits":
            return digit_drill(rng, 12), None
        if kind in ("drill", "chat"):
            return letter_drill(rng, 12), None
        if kind == "gap":
            return gap_drill(rng, 12), None
        if kind == "letters":
            return letter_turns(rng, 5), None
        if kind == "short":
            return as_text_only(*short_turns(rng, 6)), None
        if kind == "told":
            return as_text_only(*told_turns(rng, 3)), None
        if kind == "hard":
            return as_text_only(*hard_turns(rng, 5)), None
        return as_text_only(*scene_and_turns(rng, "train", turns=3, letters=0.6)), None

    def encoded(self, rng: np.random.Generator) -> Iterator[Encoded]:
        """Endless conversations as token ids and labels."""
        encoder = Encoder(self.tokenizer, IMAGE_TOKENS)
        kinds, shares = zip(*self.stage.shares.items(), strict=True)
        for _ in itertools.count():
            kind = str(rng.choice(kinds, p=shares))
            turns, pixels = self.record(rng, kind)
            yield KINDS.index(kind), *encoder.encode(turns, kind in PLAIN), pixels

    def collate(self, group: list[Encoded]) -> dict[str, torch.Tensor]:
        """Right-padded `ids` and `labels` (rows, length), `pixels` of the rows that have any, `kinds` (rows,)."""
        ids = pad_sequence([torch.tensor(g[1]) for g in group], True, self.tokenizer.pad_token_id)
        labels = pad_sequence([torch.tensor(g[2]) for g in group], True, IGNORE)
        pixels = [torch.from_numpy(g[3]) for g in group if g[3] is not None]
        stacked = torch.stack(pixels) if pixels else torch.zeros((0, 3, IMAGE, IMAGE))
        return {"ids": ids, "labels": labels, "pixels": stacked, "kinds": torch.tensor([g[0] for g in group])}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(self.seed)
        source = self.encoded(rng)
        while True:
            pool = sorted((next(source) for _ in range(128)), key=lambda record: len(record[1]))
            batches: list[list[Encoded]] = [[]]
            for record in pool:
                if (len(batches[-1]) + 1) * len(record[1]) > self.tokens:
                    batches.append([])
                batches[-1].append(record)
            for place in rng.permutation(len(batches)):
                yield self.collate(batches[place])
