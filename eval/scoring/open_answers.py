"""Scores of open answers that a judge has read: MathVista and MM-Vet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError

from .patches import read_csv

MMVET_CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
GAVE_UP = "All 5 retries failed"
"""What VLMEvalKit writes where there is no verdict; it scores such an answer as wrong."""
Result = tuple[dict[str, Any], list[dict[str, Any]]]
"""The entry for scores.json, and the outcome of each question."""


def mmvet(table: Any, scores: Sequence[dict[str, Any]]) -> Result:
    """MM-Vet: the judge gives each answer 0 to 1; the overall is their mean, per cent.

    A capability's score is VLMEvalKit's, which counts a question of that capability alone twice (MMVet_acc adds it as
    a capability and again as a mixture of the same name). The overall is not touched by that.

    Args:
        table: VLMEvalKit's table of answers with the columns score and log.
        scores: rows of its `_score.csv`: Category, tot, acc.
    """
    found = {str(row["Category"]): row for row in scores}
    abilities = {
        name: float(found[name]["acc"]) for name in MMVET_CAPABILITIES if name in found and found[name]["tot"] > 0
    }
    rows = table.to_dict("records")
    outcomes = [
        {"unit": str(row["index"]), "score": float(row["score"]), "ability": str(row["category"])} for row in rows
    ]
    return _entry(float(found["Overall"]["acc"]), abilities, rows), outcomes


def mathvista(table: Any, scores: Sequence[dict[str, Any]]) -> Result:
    """MathVista: the judge extracts the answer, VLMEvalKit compares it; the overall is the share that is right.

    Args:
        table: VLMEvalKit's table of answers with the columns res and log.
        scores: rows of its `_score.csv`: Task&Skill, tot, acc.
    """
    from vlmeval.dataset.utils.mathvista import post_check

    found = {str(row["Task&Skill"]): float(row["acc"]) for row in scores}
    overall = found.pop("Overall")
    rows = table.to_dict("records")
    outcomes = [
        {"unit": str(row["index"]), "score": float(bool(post_check(row, prefetch=False))), "ability": str(row["task"])}
        for row in rows
    ]
    return _entry(overall, found, rows), outcomes


def read(dataset: str, table: Path, judge: str) -> Result:
    """The result of a dataset from the files that VLMEvalKit wrote beside its prediction table.

    Raises EvaluationError when one is missing.
    """
    from vlmeval.smp import load

    answers, scores = (table.with_name(f"{table.stem}_{judge}{end}") for end in (".xlsx", "_score.csv"))
    for path in (answers, scores):
        if not path.is_file():
            raise EvaluationError(f"VLMEvalKit did not write {path}; its log in the run folder says why.")
    reader = {"MMVet": mmvet, "MathVista_MINI": mathvista}[dataset]
    # As VLMEvalKit reads it: what a cell is depends on it.
    return reader(load(str(answers)), read_csv(scores).to_dict("records"))


def _entry(overall: float, abilities: dict[str, float], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    failures = sum(GAVE_UP in str(row["log"]) for row in rows)
    return {"overall": overall, "scale": 100.0, "abilities": abilities, "parse_failures": failures, "chance": None}
