"""Opening, squaring and normalising images as CLIP in LLaVA-1.5 wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError

from ..errors import DataError

if TYPE_CHECKING:
    import torch


def open_image(root: Path, name: str) -> Image.Image:
    """Decode one image to RGB.

    Raises:
        DataError: missing, unreadable, truncated, or a link that leaves the root.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"image {name!r} leaves the image folder {root}: copy it inside")
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"image {name!r} is missing in {root}: run `moslora data check`") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as fault:
        raise DataError(f"image {name!r} cannot be read ({fault}): replace it or leave its record out") from fault


def pad_to_square(image: Image.Image, colour: Sequence[float]) -> Image.Image:
    """Centre the image on a square of the given colour (shares of 1, as in `image_mean`)."""
    width, height = image.size
    if width == height:
        return image
    edge = max(width, height)
    square = Image.new("RGB", (edge, edge), tuple(int(share * 255) for share in colour))
    square.paste(image, ((edge - width) // 2, (edge - height) // 2))
    return square


def to_pixels(image: Image.Image, processor: Any, square: bool = True) -> torch.Tensor:
    """The image as a (3, H, W) tensor through a Hugging Face image processor."""
    if square:
        image = pad_to_square(image, processor.image_mean)
    pixels: torch.Tensor = processor(image, return_tensors="pt")["pixel_values"][0]
    return pixels
