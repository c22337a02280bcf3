"""Images a second on one core, from the JPEG file to the pixels: XTuner's own path against this package's.

    python scripts/bench_images.py --json runs/images.json

The pictures are made: smooth waves with noise over them, as photographs of quality 90. Both paths read each picture in
turn, so that what else the machine does falls on both; a figure is the median of all repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor
from xtuner.dataset.utils import expand2square

from moslora_xtuner.data.images.check import examine
from moslora_xtuner.data.images.opening import open_image
from moslora_xtuner.data.images.preprocess import ToPixels

SIZES = ((640, 480), (500, 375), (1024, 768))
PICTURES = 4
EDGE = 336
Read = Callable[[Path, str], torch.Tensor]


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """A picture that a JPEG of quality 90 needs about three bits a pixel for, as it does for a photograph."""
    draw = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)
    levels = np.full((height, width, 3), 128.0)
    for channel in range(3):
        for _ in range(4):
            across, down, phase = draw.uniform(0.5, 4), draw.uniform(0.5, 4), draw.uniform(0, 1)
            levels[:, :, channel] += 30 * np.sin(2 * np.pi * (across * columns + down * rows + phase))
    levels += draw.normal(0, 8, (height, width, 1))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def stock_path(processor: Any) -> Read:
    """What `xtuner.dataset.llava.LLaVADataset.__getitem__` does with `pad_image_to_square`."""

    def read(folder: Path, name: str) -> torch.Tensor:
        image = Image.open(os.path.join(folder, name)).convert("RGB")
        image = expand2square(image, tuple(int(x * 255) for x in processor.image_mean))
        pixels: torch.Tensor = processor.preprocess(image, return_tensors="pt")["pixel_values"][0]
        return pixels

    return read


def our_path(processor: Any) -> Read:
    """What `moslora_xtuner.data.dataset` does."""
    to_pixels = ToPixels(processor)
    return lambda folder, name: to_pixels(open_image(folder, name))


def measure(repeats: int) -> list[dict[str, Any]]:
    """One row a size: images/s of both paths, their ratio, the largest absolute difference of their pixels, looks/s.

    A look is what `moslora data check` does with a file: decode it whole, a JPEG at an eighth of its size.

    Args:
        repeats: how often each of a size's pictures is read by each path.
    """
    processor = CLIPImageProcessor(size={"shortest_edge": EDGE}, crop_size={"height": EDGE, "width": EDGE})
    paths = {"stock": stock_path(processor), "ours": our_path(processor)}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return [_row(Path(folder), *size, paths, repeats) for size in SIZES]
    finally:
        torch.set_num_threads(before)


def _row(folder: Path, width: int, height: int, paths: dict[str, Read], repeats: int) -> dict[str, Any]:
    names = [f"{width}x{height}_{seed}.jpg" for seed in range(PICTURES)]
    for seed, name in enumerate(names):
        photograph(width, height, seed).save(folder / name, quality=90)
    seconds: dict[str, list[float]] = {path: [] for path in (*paths, "look")}
    difference = 0.0
    for _ in range(repeats):
        for name in names:
            found = {}
            for path, read in paths.items():
                start = time.perf_counter()
                found[path] = read(folder, name)
                seconds[path].append(time.perf_counter() - start)
            start = time.perf_counter()
            looked = examine(folder, name)
            seconds["look"].append(time.perf_counter() - start)
            if looked:
                raise SystemExit(f"error: {looked} of a picture that was just made")
            difference = max(difference, float((found["ours"] - found["stock"]).abs().max()))
    rate = {path: 1 / median(times) for path, times in seconds.items()}
    return {
        "width": width,
        "height": height,
        "bytes": round(sum((folder / name).stat().st_size for name in names) / len(names)),
        "stock_images_s": round(rate["stock"], 1),
        "ours_images_s": round(rate["ours"], 1),
        "looks_s": round(rate["look"]),
        "ratio": round(rate["ours"] / rate["stock"], 2),
        "largest_difference": difference,
    }


def main() -> None:
    """Print the table; with --json also write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50, help="readings of each picture by each path (default 50)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error("--repeats: give 1 or more")
    rows = measure(args.repeats)
    print(f"{'picture':>10} {'stock /s':>9} {'ours /s':>9} {'ratio':>6} {'largest difference':>19}")
    for row in rows:
        size = f"{row['width']}x{row['height']}"
        print(
            f"{size:>10} {row['stock_images_s']:>9.1f} {row['ours_images_s']:>9.1f} {row['ratio']:>6.2f} "
            f"{row['largest_difference']:>19g}"
        )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
