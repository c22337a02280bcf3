"""The sample answers that runs kept, read back for the page: one question, the answers of all runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import parse_json
from moslora_xtuner.errors import DataError

from ..results import scores
from ..results.scores import Run


def collect(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """For each benchmark the questions that every run kept, with the answers of all runs side by side.

    Raises DataError for a broken samples file.
    """
    found: list[dict[str, Any]] = []
    for dataset in dict.fromkeys(name for run in runs for name in run.benchmarks):
        by_run = {run.model: lines for run in runs if (lines := _read(run.folder, dataset))}
        if not by_run:
            continue
        first = next(iter(by_run.values()))
        cards = []
        for index, record in first.items():
            answers = [
                {"model": model, "text": lines[index]["prediction"], "hit": lines[index]["hit"]}
                for model, lines in by_run.items()
                if index in lines
            ]
            cards.append({**record, "answers": answers})
        found.append({"title": scores.label(dataset), "cards": cards})
    return found


def _read(folder: Path, dataset: str) -> Mapping[str, dict[str, Any]]:
    """A run's kept samples of one benchmark by question index; empty where it has none."""
    path = folder / "samples" / f"{dataset}.jsonl"
    if not path.is_file():
        return {}
    try:
        records = [parse_json(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return {record["index"]: _checked(record) for record in records}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is broken ({type(error).__name__}: {error}). Evaluate again.") from error


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """A sample whose picture is an embedded image and nothing else (no address to load)."""
    wanted = ("ability", "question", "options", "answer", "prediction", "hit", "image")
    clean = {name: record[name] for name in wanted}
    if not str(clean["image"]).startswith(("data:image/png;base64,", "data:image/jpeg;base64,")):
        clean["image"] = ""
    return clean
