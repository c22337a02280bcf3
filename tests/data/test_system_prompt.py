"""The system prompt that a training's records carry, on its way to the export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moslora_xtuner.data.prepare import prepare

WriteJson = Callable[[list[Any]], Path]


@pytest.mark.parametrize(
    ("systems", "kept"),
    [
        (["Be brief."] * 3, "Be brief."),
        (["Be brief.", "Be brief.", ""], "Be brief."),
        (["Be brief.", "Be long.", ""], ""),
        (["", "", "Be brief."], ""),
    ],
)
def test_the_system_prompt_of_most_records_is_kept_for_the_export(
    systems: list[str], kept: str, write_json: WriteJson, image_root: Path, tiny_base: Path, tmp_path: Path
) -> None:
    records: list[dict[str, Any]] = []
    for number, system in enumerate(systems):
        said = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
        opening = [{"from": "system", "value": system}] if system else []
        records.append({"id": str(number), "conversations": [*opening, *said]})
    manifest = prepare(write_json(records), image_root, tiny_base / "llm", tmp_path / "store")
    assert manifest["system"] == kept
