"""One set of stand-ins for all recipes of a run, and the environment variables that point at it."""

from __future__ import annotations

import pytest
import standins

from moslora_xtuner.data.prepare import prepare

RECORDS = 120


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything that a recipe's head says is needed, made small."""
    root = tmp_path_factory.mktemp("standins")
    mix = standins.make_mix(root / "data", RECORDS)
    models = {
        "LLAMA3": ("8B", standins.make_llama3(root / "llama3"), standins.WIDTH),
        "INTERNLM2": ("7B", standins.make_internlm2(root / "internlm2"), standins.INTERNLM2_WIDTH),
    }
    variables = {}
    for name, (size, llm, width) in models.items():
        store = root / f"store_{name}"
        prepare(mix, root / "data" / "images", llm, store)
        variables |= {
            f"{name}_{size}": str(llm),
            f"{name}_STORE": str(store),
            f"{name}_PRETRAIN_STORE": str(store),
            f"{name}_PROJECTOR": str(standins.make_projector(root / f"projector_{name}", width)),
        }
    return variables | {
        "CLIP_L_336": str(standins.make_clip(root / "clip")),
        "LLAVA_IMAGES": str(root / "data" / "images"),
        "LLAVA_PRETRAIN_IMAGES": str(root / "data" / "images"),
    }
