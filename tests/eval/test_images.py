"""Pictures as data URIs: the bytes as they are, and small ones for pages."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image

from moslora_xtuner.eval.images import data_uri, thumbnail


def test_the_bytes_stay_and_the_kind_is_read_from_them(picture: Callable[..., bytes]) -> None:
    image = picture(3)
    kind, _, text = data_uri(image).partition(",")
    assert (kind, base64.b64decode(text)) == ("data:image/png;base64", image)
    assert data_uri(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg;base64,")
    with pytest.raises(ValueError, match="neither PNG"):
        data_uri(b"%PDF")


def test_a_thumbnail_is_small_and_has_the_pictures_shape() -> None:
    target = BytesIO()
    Image.new("RGB", (900, 300), (0, 255, 0)).save(target, "PNG")
    kind, _, text = thumbnail(target.getvalue(), 90).partition(",")
    small = Image.open(BytesIO(base64.b64decode(text)))
    assert (kind, small.size) == ("data:image/jpeg;base64", (90, 30))
    whole = thumbnail(target.getvalue(), 900)
    assert whole.startswith("data:image/png;base64,")
    assert thumbnail(None) == ""
    with pytest.raises(OSError, match="identify"):
        thumbnail(b"no picture")


def test_what_no_training_would_open_no_page_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    target = BytesIO()
    Image.new("RGB", (40, 30)).save(target, "EPS")  # its reader starts another program
    with pytest.raises(OSError, match="identify"):
        thumbnail(target.getvalue())
    target = BytesIO()
    Image.new("RGB", (40, 30)).save(target, "PNG")
    for most in (1000, 100):  # of which Pillow warns, and which it refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(ValueError, match="decompression bomb"):
            thumbnail(target.getvalue())
