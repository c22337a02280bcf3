"""The lean image path makes the very bits of the Hugging Face processor, and steps aside where it would not."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor, SiglipImageProcessor

from moslora_xtuner.data.images.preprocess import ToPixels, pad_to_square

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
sizes = st.integers(1, 90)
FILTERS = [Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS,
           Image.Resampling.BOX, Image.Resampling.HAMMING]  # fmt: skip


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def clip(edge: int = 24, **options: Any) -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}, **options)


def stock(image: Image.Image, processor: Any, square: bool = True) -> torch.Tensor:
    """XTuner's own path, with the layout said: of edges 1 and 3 the processor guesses that they are channels."""
    from xtuner.dataset.utils import expand2square

    if square:
        image = expand2square(image, tuple(int(share * 255) for share in processor.image_mean))
    made = processor.preprocess(image, return_tensors="pt", input_data_format="channels_last")
    return made["pixel_values"][0]


def check(image: Image.Image, processor: Any, square: bool = True) -> None:
    found = ToPixels(processor, square)(image)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    assert torch.equal(found, stock(image, processor, square))


class Lean:
    """Fails when the processor is asked for an image, as the table is made of it before."""

    def __init__(self, processor: Any, square: bool = True) -> None:
        self.ours = ToPixels(processor, square)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        with patch.object(CLIPImageProcessor, "preprocess", side_effect=AssertionError("not lean")):
            return self.ours(image)


@given(sizes, sizes)
def test_padding_equals_xtuners(width: int, height: int) -> None:
    from xtuner.dataset.utils import expand2square

    image = picture(width, height)
    wanted = expand2square(image, tuple(int(share * 255) for share in CLIP_MEAN))
    assert np.array_equal(np.asarray(pad_to_square(image, CLIP_MEAN)), np.asarray(wanted))


def test_padding_by_hand() -> None:
    """3 x 1 white on a 3 x 3 square of (0, 127, 255): rows 0 and 2 are padding."""
    found = np.asarray(pad_to_square(Image.new("RGB", (3, 1), (255, 255, 255)), (0.0, 0.5, 1.0)))
    assert found[:, 0].tolist() == [[0, 127, 255], [255, 255, 255], [0, 127, 255]]


@given(sizes, sizes, st.integers(0, 2**32 - 1))
@example(1, 1, 0)
@example(1, 90, 0)
@example(90, 1, 0)
@example(24, 24, 0)
@example(24, 7, 0)
@example(7, 24, 0)
@example(25, 24, 0)
@example(3, 2, 0)
def test_equals_the_processor_to_the_bit(width: int, height: int, seed: int) -> None:
    check(picture(width, height, seed), clip())


@pytest.mark.parametrize(
    "size", [(336, 336), (336, 252), (252, 336), (640, 480), (480, 640), (500, 375), (1023, 767), (337, 1), (2500, 40)]
)
def test_equals_the_processor_at_the_size_of_llava(size: tuple[int, int]) -> None:
    check(picture(*size), clip(336))


@given(sizes, sizes, st.sampled_from(FILTERS))
def test_other_filters(width: int, height: int, resample: int) -> None:
    check(picture(width, height), clip(resample=resample))


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.floats(1e-3, 2), min_size=3, max_size=3),
    st.sampled_from([1 / 255, 1 / 127.5, 1.0]),
)
def test_other_constants(mean: list[float], std: list[float], factor: float) -> None:
    check(picture(31, 17), clip(image_mean=mean, image_std=std, rescale_factor=factor))


def test_one_mean_for_all_channels() -> None:
    one, three = clip(image_mean=0.5, image_std=0.25), clip(image_mean=[0.5] * 3, image_std=[0.25] * 3)
    assert torch.equal(Lean(one)(picture(31, 17)), stock(picture(31, 17), three))


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "P"])
def test_what_was_converted_to_rgb(mode: str) -> None:
    check(picture(40, 30).convert(mode).convert("RGB"), clip())


def test_equals_the_formula_in_float64() -> None:
    """On a square of the processor's own edge nothing is resampled: (v / 255 - mean) / std."""
    processor = clip(24)
    levels = np.asarray(picture(24, 24)).astype(np.float64)
    wanted = (levels / 255 - np.array(processor.image_mean)) / np.array(processor.image_std)
    assert np.abs(Lean(processor)(picture(24, 24)).numpy() - wanted.transpose(2, 0, 1)).max() < 1e-5


def test_the_lean_path_does_not_ask_the_processor() -> None:
    Lean(clip())(picture(40, 30))
    Lean(clip())(picture(30, 40))
    Lean(clip(), square=False)(picture(40, 40))
    with pytest.raises(AssertionError, match="not lean"):
        Lean(clip(), square=False)(picture(40, 30))


@pytest.mark.parametrize("edge", [1, 3])
def test_tiny_images_are_not_taken_for_channels(edge: int) -> None:
    """Of one colour, at any size: (v / 255 - mean) / std; the processor refuses edge 1 and scrambles edge 3."""
    found = ToPixels(clip())(Image.new("RGB", (edge, edge), (255, 0, 51)))
    wanted = [(level - mean) / std for level, mean, std in zip((1, 0, 0.2), CLIP_MEAN, clip().image_std, strict=True)]
    assert torch.allclose(found, torch.tensor(wanted)[:, None, None].expand(3, 24, 24), atol=1e-5)


@pytest.mark.parametrize(
    "processor",
    [
        clip(do_resize=False),
        clip(do_rescale=False),
        clip(do_normalize=False),
        CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 24, "width": 24}),
        CLIPImageProcessor(size={"height": 24, "width": 24}, crop_size={"height": 24, "width": 24}),
        CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 20}),
        SiglipImageProcessor(size={"height": 24, "width": 24}),
        type("Own", (CLIPImageProcessor,), {})(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),
    ],
)
@pytest.mark.parametrize("square", [True, False])
def test_other_processors_and_switches_are_left_to_the_processor(processor: Any, square: bool) -> None:
    image = picture(40, 30)
    ours = ToPixels(processor, square)
    wanted = stock(image, processor, square)
    with patch.object(type(processor), "preprocess", autospec=True, side_effect=type(processor).preprocess) as asked:
        found = ours(image)
    assert asked.call_count == 1
    assert torch.equal(found, wanted)


def test_another_mode_is_left_to_the_processor() -> None:
    image = picture(40, 40).convert("L")
    assert torch.equal(ToPixels(clip())(image), stock(image.convert("RGB"), clip()))


def test_goes_to_workers() -> None:
    there = pickle.loads(pickle.dumps(ToPixels(clip())))
    assert torch.equal(there(picture(40, 30)), stock(picture(40, 30), clip()))


def test_two_images_share_no_memory() -> None:
    ours = ToPixels(clip())
    first = ours(picture(40, 30))
    kept = first.clone()
    ours(picture(40, 30, seed=1))
    assert torch.equal(first, kept)


def test_where_nothing_is_cropped_a_square_is_lean_all_the_same() -> None:
    """As an export's processor is: its short edge is its only size."""
    processor = clip(do_center_crop=False)
    for size in ((40, 30), (30, 40), (24, 24), (1, 1)):
        image = picture(*size)
        ours, wanted = ToPixels(processor), stock(image, processor, True)
        with patch.object(CLIPImageProcessor, "preprocess", side_effect=AssertionError("not lean")):
            found = ours(image)
        assert torch.equal(found, wanted)
    image = picture(40, 30)  # not padded it is not square, and stays so
    assert torch.equal(ToPixels(processor, False)(image), stock(image, processor, False))


@pytest.mark.parametrize("resample", [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
@pytest.mark.parametrize("size", [(3, 1500), (700, 1201), (40, 1030), (1200, 700)])
def test_tall_pictures_cut_into_bands_have_the_same_bits(size: tuple[int, int], resample: Any) -> None:
    check(picture(*size), clip(24, resample=resample))


def test_a_picture_of_the_longest_side_takes_little_memory() -> None:
    """Its square would have 3 GB: in a process of its own, since what Pillow takes is not Python's to count."""
    script = """
import resource, sys
from PIL import Image
from transformers import CLIPImageProcessor
from moslora_xtuner.data.images.opening import LONGEST_SIDE
from moslora_xtuner.data.images.preprocess import ToPixels
to_pixels = ToPixels(CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for size in ((8, LONGEST_SIDE), (LONGEST_SIDE, 8)):
    to_pixels(Image.new("RGB", size, "red"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300  # MiB; 3,072 for the square
