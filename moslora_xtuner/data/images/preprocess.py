"""Squaring, resizing and normalising images as CLIP in LLaVA-1.5 wants them, without needless passes over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

REACH = 4
"""Columns beside its own that one of a smaller picture may be made from: 3 with Lanczos, the widest, 1 for rounding."""

ROWS = 512
"""Of a tall picture's square that are in memory at a time."""


def pad_to_square(image: Image.Image, colour: Sequence[float]) -> Image.Image:
    """Centre the image on a square of the given colour (shares of 1, as in `image_mean`)."""
    width, height = image.size
    if width == height:
        return image
    edge = max(width, height)
    square = Image.new("RGB", (edge, edge), _levels(colour))
    square.paste(image, ((edge - width) // 2, (edge - height) // 2))
    return square


class ToPixels:
    """A Hugging Face image processor; where it is CLIP's, on square images, to the same bits in less time.

    For a level v of channel c, squared and resized, the value is that of a table made once by the processor itself::

        table[c, v] = (float32(v * rescale_factor) - image_mean[c]) / image_std[c]

    Any other processor, other switches and images that are not square go through the processor. An image of edge 1 or
    3 is taken for what it is, (H, W, 3), which the processor guesses to be (3, H, W): it would refuse or scramble it.

    Args:
        processor: what it says now counts; later changes to it do not.
        square: pad the image to a square of the processor's `image_mean`, as XTuner's `pad_image_to_square`.

    Source: `transformers.CLIPImageProcessor.preprocess`, `xtuner.dataset.utils.expand2square`.
    """

    def __init__(self, processor: Any, square: bool = True) -> None:
        self.processor = processor
        self.colour = _shares(processor.image_mean) if square else None
        self.edge = _lean_edge(processor)
        self.resample = processor.resample if self.edge else None
        self.table = _table(processor) if self.edge else None

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """The RGB image as float32 (3, H, W)."""
        square = self.colour is not None or image.width == image.height
        if self.table is None or not square or image.mode != "RGB":
            return self._processed(image)
        levels = np.asarray(_squared(image, self.edge, self.resample, self.colour or ()))
        found = np.empty((3, self.edge, self.edge), np.float32)
        for channel, values in enumerate(self.table):
            # A level is below 256, so nothing is clipped; "raise", the default, would write through a buffer.
            np.take(values, levels[:, :, channel], out=found[channel], mode="clip")
        return torch.from_numpy(found)

    def _processed(self, image: Image.Image) -> torch.Tensor:
        if self.colour is not None:
            image = pad_to_square(image, self.colour)
        pixels: torch.Tensor = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return pixels


def _squared(image: Image.Image, edge: int, resample: Any, colour: Sequence[float]) -> Image.Image:
    """The image padded to a square and resized to the edge.

    PIL resizes in two passes with a rounding between them, rows first, and a row of one colour stays what it is. So
    the rows of padding above and below are put in between the passes, when they are short, and the columns of padding
    at both sides are left out of the second one: the same pixels, sooner.
    """
    width, height = image.size
    if width > height and width != edge:
        strip = Image.new("RGB", (edge, width), _levels(colour))
        strip.paste(image.resize((edge, height), resample), (0, (width - height) // 2))
        return strip.resize((edge, edge), resample)
    if height <= max(width, edge):
        square = pad_to_square(image, colour)
        return square if square.width == edge else square.resize((edge, edge), resample)
    left = (height - width) // 2
    first = max(0, left * edge // height - REACH)
    last = min(edge, -(-(left + width) * edge // height) + REACH)
    made = Image.new("RGB", (edge, edge), _levels(colour))
    columns = Image.new("RGB", (last - first, height))
    for top in range(0, height, ROWS):  # a row's first pass knows nothing of other rows, and the square may be huge
        rows = image.crop((0, top, width, min(top + ROWS, height)))
        band = Image.new("RGB", (height, rows.height), _levels(colour))
        band.paste(rows, (left, 0))
        columns.paste(band.resize((edge, rows.height), resample).crop((first, 0, last, rows.height)), (0, top))
    made.paste(columns.resize((last - first, edge), resample), (first, 0))
    return made


def _lean_edge(processor: Any) -> int:
    """The edge of what the processor makes of a square, 0 when it is not what `ToPixels` computes."""
    from transformers import CLIPImageProcessor

    if type(processor) is not CLIPImageProcessor or processor.resample is None:
        return 0
    if not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        return 0
    edge = processor.size.get("shortest_edge")
    cropped = processor.do_center_crop and processor.crop_size != {"height": edge, "width": edge}
    plain = processor.size == {"shortest_edge": edge} and not cropped  # there is nothing to crop off a square
    return int(edge) if plain else 0


def _table(processor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What the processor makes of each level of each channel: float32 (3, 256)."""
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)  # (256, 1, 3)
    made = processor.preprocess(
        levels, do_resize=False, do_center_crop=False, input_data_format="channels_last", return_tensors="np"
    )
    return np.ascontiguousarray(made["pixel_values"][0][:, :, 0], dtype=np.float32)


def _shares(mean: float | Sequence[float]) -> Sequence[float]:
    """A processor's mean of each channel; it may give one for all."""
    return (mean,) * 3 if isinstance(mean, (int, float)) else mean


def _levels(colour: Sequence[float]) -> tuple[int, ...]:
    return tuple(int(share * 255) for share in colour)
