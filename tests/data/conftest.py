"""Small LLaVA JSON files with images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

WriteJson = Callable[[list[Any]], Path]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Random RGB noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's cache of its own for each test, so that none knows another's images."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MOSLORA_CACHE", str(folder))
    return folder


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    """A folder with a.png, deep/b.png and a truncated.png."""
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    picture(40, 30).save(root / "a.png")
    picture(30, 40, 1).save(root / "deep" / "b.png")
    whole = (root / "a.png").read_bytes()
    (root / "truncated.png").write_bytes(whole[: len(whole) // 2])
    return root


@pytest.fixture
def write_json(tmp_path: Path) -> WriteJson:
    """Write records as a LLaVA JSON and return its path."""

    def write(records: list[Any]) -> Path:
        path = tmp_path / "train.json"
        path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
        return path

    return write
