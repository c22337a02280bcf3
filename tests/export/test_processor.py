"""The exported processor: what training did with a picture, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPImageProcessor, LlavaForConditionalGeneration

from moslora_xtuner.data.images.preprocess import ToPixels
from moslora_xtuner.export.processor import image_settings


@pytest.fixture(scope="module")
def exported(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from moslora_xtuner.export.merge import export

    return export(tiny_base, tmp_path_factory.mktemp("export") / "hf")


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_release_that_cannot_pad_stops(exported: Path) -> None:
    """4.48 has no such class: no processor, instead of one that crops."""
    with pytest.raises(ValueError, match="Unrecognized image processor"):
        AutoProcessor.from_pretrained(exported)


def test_clips_own_class_gives_a_picture_that_the_model_refuses(exported: Path) -> None:
    processor = CLIPImageProcessor.from_pretrained(exported)
    model = LlavaForConditionalGeneration.from_pretrained(exported).eval()
    token = model.config.image_token_index
    ids = torch.tensor([[1, *[token] * 36, 5]])
    for size, fits in (((48, 48), True), ((90, 90), True), ((90, 30), False), ((30, 90), False)):
        pixels = processor(picture(*size), return_tensors="pt")["pixel_values"]
        if fits:
            assert torch.equal(pixels[0], ToPixels(processor)(picture(*size)))
            model(input_ids=ids, pixel_values=pixels)
        else:
            with pytest.raises(ValueError, match="doesn't match model"):
                model(input_ids=ids, pixel_values=pixels)


def test_the_settings_are_those_of_training(tiny_base: Path, exported: Path) -> None:
    found = json.loads((exported / "preprocessor_config.json").read_text())
    trained = CLIPImageProcessor.from_pretrained(tiny_base / "visual_encoder")
    for name in ("image_mean", "image_std", "resample", "size", "rescale_factor", "do_normalize", "crop_size"):
        assert found[name] == getattr(trained, name)
    assert (found["image_processor_type"], found["do_pad"], found["do_center_crop"]) == (
        "LlavaImageProcessor",
        True,
        False,
    )
    # Read again, for an evaluation, they give the same pixels.
    again = CLIPImageProcessor.from_pretrained(exported)
    for size in ((48, 48), (90, 30), (17, 200), (1, 1), (300, 9)):
        assert torch.equal(ToPixels(again)(picture(*size)), ToPixels(trained)(picture(*size)))


def test_a_training_that_cropped_is_exported_as_one() -> None:
    trained = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    found = image_settings(trained, square=False)
    assert (found["image_processor_type"], found["do_center_crop"]) == ("CLIPImageProcessor", True)
    assert "do_pad" not in found
