"""One set of stand-ins for all recipes of a run, and the environment variables that point at it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from moslora_xtuner.data.prepare import prepare

sys.path.insert(0, str(Path(__file__).parent))

import standins

RECORDS = 120


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything that a recipe's head says is needed, made small."""
    root = tmp_path_factory.mktemp("standins")
    llm = standins.make_llama3(root / "llama3")
    mix = standins.make_mix(root / "data", RECORDS)
    prepare(mix, root / "data" / "images", llm, root / "store_llama3")
    return {
        "LLAMA3_8B": str(llm),
        "LLAMA3_STORE": str(root / "store_llama3"),
        "LLAMA3_PRETRAIN_STORE": str(root / "store_llama3"),
        "LLAMA3_PROJECTOR": str(standins.make_projector(root / "projector")),
        "CLIP_L_336": str(standins.make_clip(root / "clip")),
        "LLAVA_IMAGES": str(root / "data" / "images"),
        "LLAVA_PRETRAIN_IMAGES": str(root / "data" / "images"),
    }
