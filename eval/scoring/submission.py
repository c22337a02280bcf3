"""Test sets whose answers are held back: the file to hand in, and the dev set that is scored beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moslora_xtuner.atomic import make_folder

from ..results.run_folder import folder_name
from ..tasks.questions import Task
from .score import prediction_table, write_table


def write(folder: Path, model: str, task: Task, answers: Sequence[str]) -> Path:
    """Write VLMEvalKit's prediction table, which is what MMBench's evaluation server takes; returns its path.

    FOLDER/submission/MODEL_DATASET.xlsx: index, question, options and prediction, a row for each rotation.
    """
    path = folder / "submission" / f"{folder_name(model)}_{task.dataset.dataset_name}.xlsx"
    make_folder(path.parent)
    write_table(prediction_table(task, answers), path)
    return path
