"""The visual encoder's own training: which digit each patch shows, what ink, what paper."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from moslora_xtuner.data.digits.scenes import CANVAS, INKS, PAPERS, Scene, draw, sample_scene

from .model import IMAGE, PATCH, Base, image_processor
from .optimisation import Optimizers, average_gradients


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


def train_sight(model: Base, rng: np.random.Generator, scenes: int, steps: int, rate: float, batch: int = 96) -> None:
    """Teach the visual encoder what CLIP's training teaches.

    Linear heads on the features that the projector reads; they are thrown away.
    """
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
            print(f"sight {step}/{steps} {right:.3f} of patches, {time.time() - start:.0f} s", flush=True)
