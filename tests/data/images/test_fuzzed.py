"""Broken image files of every format: named or readable, never a traceback, never a look outside the folder."""

from __future__ import annotations

import io
import random
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from moslora_xtuner.data.images.check import examine
from moslora_xtuner.data.images.opening import ImageFault, open_image
from moslora_xtuner.data.problem_kinds import FAULTS, REMARKS

PARTS = ["..", ".", "a.png", "deep", "b.png", "way", "out.png", "", "~", "$HOME", "é", "\n"]
FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"]


@lru_cache
def sample(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(FORMATS), seed=st.integers(0, 10**9), flips=st.integers(0, 8))
def test_mutated_files(tmp_path: Path, kind: str, seed: int, flips: int) -> None:
    draw = random.Random(seed)
    content = bytearray(sample(kind))
    for _ in range(flips):
        # The head is where sizes and depths stand.
        content[draw.randrange(min(len(content), draw.choice([40, len(content)])))] = draw.randrange(256)
    if draw.random() < 0.4:
        del content[draw.randrange(len(content)) :]
    (tmp_path / "a.jpg").write_bytes(bytes(content))
    findings = examine(tmp_path, "a.jpg")
    assert all(kind in FAULTS or kind in REMARKS for kind, _ in findings)
    faults = [kind for kind, _ in findings if kind in FAULTS]
    if faults:
        with pytest.raises(ImageFault) as fault:
            open_image(tmp_path, "a.jpg")
        assert [fault.value.kind] == faults
    else:
        assert open_image(tmp_path, "a.jpg").mode == "RGB"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.sampled_from(["..", ".", "a.png", "deep", "b.png", "way", "out.png", "", "~", "$HOME", "é", "\n"]),
        max_size=6,
    )
)
def test_names_that_try_to_leave(tmp_path: Path, parts: list[str]) -> None:
    """Whatever the name, no picture but those of the folder is ever opened."""
    root = tmp_path / "images"
    if not root.exists():
        (root / "deep").mkdir(parents=True)
        Image.new("RGB", (2, 2), (1, 1, 1)).save(root / "a.png")
        Image.new("RGB", (2, 2), (1, 1, 1)).save(root / "deep" / "b.png")
        (tmp_path / "outside").mkdir()
        for name in ("a.png", "b.png", "out.png"):
            Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / "outside" / name)
            Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / name)
        (root / "way").symlink_to(tmp_path / "outside")
    try:
        found = open_image(root, "/".join(parts))
    except ImageFault:
        return
    assert found.getpixel((0, 0)) == (1, 1, 1)
