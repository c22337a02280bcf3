"""Which recipes there are, and how one is found by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import CONFIGS

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.recipes.catalogue import recipes, resolve_config


def test_lists_every_recipe_with_its_first_line_and_its_row() -> None:
    found = {recipe.name: recipe for recipe in recipes()}
    assert list(found) == sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")
    # As in the paper: the rows of LLaMA-3 are LoRA, MoSLoRA orthogonal, MoSLoRA Kaiming.
    rows = {name: recipe.row for name, recipe in found.items() if name.startswith(("digits", "llava_llama3"))}
    assert {name: row for name, row in rows.items() if row is not None} == {
        "llava_llama3_lora": 1,
        "llava_llama3_moslora": 2,
        "llava_llama3_moslora_kaiming": 3,
    }
    assert found["digits_lora"].title == "DigitsVQA with LoRA on the language model and on the visual encoder."


def test_finds_shipped_configs_and_files(tmp_path: Path) -> None:
    shipped = resolve_config("digits_moslora")
    assert shipped.is_file()
    assert shipped == resolve_config("digits_moslora.py")
    own = tmp_path / "own.py"
    own.touch()
    assert resolve_config(str(own)) == own
    for wrong in ("digits_none", str(tmp_path / "digits_lora.py")):
        with pytest.raises(ConfigError, match="digits_lora, digits_moslora"):
            resolve_config(wrong)
