"""Images arrive as XTuner and CLIP would have made them, and broken ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor

from moslora_xtuner.data.images import open_image, pad_to_square, to_pixels
from moslora_xtuner.errors import DataError

sizes = st.integers(1, 33)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@given(sizes, sizes)
def test_padding_equals_xtuners(width: int, height: int) -> None:
    from xtuner.dataset.utils import expand2square

    mean = (0.48145466, 0.4578275, 0.40821073)
    image = picture(width, height)
    wanted = expand2square(image, tuple(int(share * 255) for share in mean))
    found = pad_to_square(image, mean)
    assert found.size == (max(width, height),) * 2
    assert np.array_equal(np.asarray(found), np.asarray(wanted))


def test_padding_by_hand() -> None:
    """3 x 1 white on a 3 x 3 square of (0, 127, 255): rows 0 and 2 are padding."""
    found = np.asarray(pad_to_square(Image.new("RGB", (3, 1), (255, 255, 255)), (0.0, 0.5, 1.0)))
    assert found[:, 0].tolist() == [[0, 127, 255], [255, 255, 255], [0, 127, 255]]


def test_pixels_equal_the_formula_without_resizing() -> None:
    """On a square of the processor's own size nothing is resampled: (value / 255 - mean) / std in float64."""
    processor = CLIPImageProcessor(size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12})
    image = picture(12, 7)
    padded = np.full((12, 12, 3), [int(share * 255) for share in processor.image_mean], dtype=np.float64)
    padded[2:9] = np.asarray(image)
    wanted = (padded / 255 - np.array(processor.image_mean)) / np.array(processor.image_std)
    found = to_pixels(image, processor)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - wanted.transpose(2, 0, 1)).max() < 1e-5


def test_without_squaring_the_processor_crops() -> None:
    processor = CLIPImageProcessor(size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12})
    image = picture(20, 12)
    found = to_pixels(image, processor, square=False)
    crop = np.asarray(image)[:, 4:16].astype(np.float64)
    wanted = (crop / 255 - np.array(processor.image_mean)) / np.array(processor.image_std)
    assert np.abs(found.numpy() - wanted.transpose(2, 0, 1)).max() < 1e-5


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    picture(8, 8).convert(mode).save(tmp_path / name)
    assert open_image(tmp_path, name).mode == "RGB"


def test_names_what_cannot_be_read(image_root: Path, tmp_path: Path) -> None:
    (image_root / "text.png").write_text("not a picture")
    (image_root / "empty.png").touch()
    picture(4, 4).save(tmp_path / "outside.png")
    (image_root / "link.png").symlink_to(tmp_path / "outside.png")
    (image_root / "dangling.png").symlink_to(image_root / "gone.png")
    wanted = {
        "none.png": "missing",
        "dangling.png": "missing",
        "truncated.png": "cannot be read",
        "text.png": "cannot be read",
        "empty.png": "cannot be read",
        "deep": "cannot be read",
        "link.png": "leaves the image folder",
    }
    for name, reason in wanted.items():
        with pytest.raises(DataError, match=f"{name!r} .*{reason}|{name!r} {reason}|{name!r} is {reason}"):
            open_image(image_root, name)


def test_a_link_inside_the_root_and_a_linked_root_are_fine(image_root: Path, tmp_path: Path) -> None:
    (image_root / "link.png").symlink_to(image_root / "deep" / "b.png")
    (tmp_path / "linked").symlink_to(image_root)
    assert open_image(tmp_path / "linked", "link.png").size == (30, 40)
