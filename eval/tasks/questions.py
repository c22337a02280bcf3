"""The rows of a VLMEvalKit dataset as questions, their units and abilities, and the limit by units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError

from ..images import image_format
from . import pictures
from .prompts import Question, build, is_blank
from .registry import OFFSET, Benchmark

# VLMEvalKit's own abbreviations (vlmeval/dataset/utils/multiple_choice.py: MMB_abbrs)
MMB_ABILITIES = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}


@dataclass(frozen=True)
class Asked:
    """One row: its place in the data, its index, bootstrap unit, ability and question."""

    place: int
    index: Any
    unit: str
    ability: str
    question: Question


@dataclass(frozen=True)
class Task:
    """One benchmark, VLMEvalKit's dataset object of it, and its questions."""

    benchmark: Benchmark
    dataset: Any
    asked: list[Asked]

    def rows(self) -> list[dict[str, Any]]:
        """The table's rows by place, without pictures."""
        found: list[dict[str, Any]] = self.dataset.data.drop(columns=["image"], errors="ignore").to_dict("records")
        return found


def unit_of(benchmark: Benchmark, row: Any) -> str:
    """What the bootstrap resamples: the circular group, the image pair of a subtask, or the question."""
    if benchmark.circular:
        return str(int(row["index"]) % OFFSET)
    if benchmark.aggregate == "subtask_sum":
        return f"{row['category']}/{row['image_path']}"
    return str(row["index"])


def ability_of(row: Any) -> str:
    """The ability a row belongs to: the l2-category's abbreviation, else the category, else ""."""
    for column in ("l2-category", "category"):
        if not is_blank(row.get(column)):
            name = str(row[column])
            return MMB_ABILITIES.get(name, name)
    return ""


def image_bytes(row: Any, data_root: Path | None, dataset: str) -> bytes | None:
    """The row's picture: from its base64 text, else from the file that `image_path` names.

    In a format that servers read too: others (TIFF, PPM, AVIF) as PNG. Raises DataError.
    """
    image, path = row.get("image"), row.get("image_path")
    try:
        if isinstance(image, list):
            raise ValueError("several images in one question are not supported")
        if not is_blank(image):
            return _readable(pictures.decode(str(image)))
        if is_blank(path):
            return None
        if isinstance(path, list):
            raise ValueError("several images in one question are not supported")
        return _readable(pictures.locate(str(path), data_root, dataset).read_bytes())
    except (ValueError, OSError, DataError) as fault:
        raise DataError(f"{dataset}, index {row['index']}: the image: {str(fault).rstrip('.')}.") from fault


def _readable(content: bytes) -> bytes:
    """What no reader of pictures knows is left as it is: who asks says so."""
    if image_format(content) is not None:
        return content
    from moslora_xtuner.data.images.opening import from_bytes

    made = BytesIO()
    try:
        from_bytes(content).save(made, "PNG")
    except DataError:
        return content
    return made.getvalue()


def ask_all(benchmark: Benchmark, dataset: Any, data_root: Path | None, limit: int | None) -> list[Asked]:
    """Every row of the dataset as a question; with `limit` only that many units.

    Raises DataError for a broken image, or for subtasks that are missing where the score needs them all.
    """
    records = dataset.data.to_dict("records")
    chosen = None if limit is None else _first_units(benchmark, records, limit)
    asked = []
    images: dict[str, bytes | None] = {}
    for place, row in enumerate(records):
        unit = unit_of(benchmark, row)
        if chosen is not None and unit not in chosen:
            continue
        source = str(row.get("image")) if not is_blank(row.get("image")) else f"path:{row.get('image_path')}"
        if source not in images:
            images[source] = image_bytes(row, data_root, benchmark.dataset)
        question = Question(build(benchmark, row), images[source], benchmark.max_new_tokens, benchmark.beams)
        asked.append(Asked(place, row["index"], unit, ability_of(row), question))
    check_units(benchmark, asked, limited=limit is not None)
    return asked


def _first_units(benchmark: Benchmark, records: Iterable[Any], limit: int) -> set[str]:
    """The first `limit` units, taken in turn from each ability so that none is left out."""
    by_ability: dict[str, dict[str, None]] = {}
    for row in records:
        by_ability.setdefault(ability_of(row), {})[unit_of(benchmark, row)] = None
    queues = [list(units) for units in by_ability.values()]
    turns = max(len(queue) for queue in queues)
    inorder = [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]
    return set(inorder[:limit])


def check_units(benchmark: Benchmark, asked: list[Asked], *, limited: bool = False) -> None:
    """Raise DataError where VLMEvalKit would score a partial MME or a broken circular group silently.

    `limited`: a part of MME's subtasks is what was asked for, and has 200 points for each.
    """
    counts: dict[str, int] = {}
    for item in asked:
        counts[item.unit] = counts.get(item.unit, 0) + 1
    if benchmark.aggregate == "subtask_sum":
        odd = [unit for unit, count in counts.items() if count != 2]
        if odd:
            raise DataError(f"{benchmark.dataset}: {odd[0]} has {counts[odd[0]]} question(s), MME needs two.")
        missing = sorted(set(benchmark.subtasks) - {item.ability for item in asked})
        if missing and not limited:
            raise DataError(f"{benchmark.dataset} lacks the subtask(s) {', '.join(missing)}: they would count as 0.")
    if benchmark.circular:
        first = {str(item.index) for item in asked}
        orphan = next((unit for unit in counts if unit not in first), None)
        if orphan is not None:
            raise DataError(f"{benchmark.dataset}: there are rotations of {orphan}, but not itself.")
