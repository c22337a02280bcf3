"""Evaluated runs of the commonsense study with outcomes question by question, written without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from reproduce.table4.catalogue import Trained

from moslora_xtuner.eval.results.run_folder import folder_name
from moslora_xtuner.eval.tasks.registry import GROUPS

QUESTIONS = 20


def write_run(root: Path, run: Trained, right: Mapping[str, int] | int, group: str = "commonsense") -> Path:
    """A run folder in which so many of QUESTIONS questions of each set, the first ones, are right."""
    folder = root / folder_name(run.name)
    (folder / "outcomes").mkdir(parents=True)
    entries = {}
    for name in GROUPS[group]:
        count = right if isinstance(right, int) else right.get(name, 0)
        lines = [json.dumps({"unit": str(n), "ability": "", "score": float(n < count)}) for n in range(QUESTIONS)]
        (folder / "outcomes" / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))
        entries[name] = {"overall": 100 * count / QUESTIONS, "scale": 100.0}
    (folder / "scores.json").write_text(json.dumps({"model": run.name, "benchmarks": entries}))
    return folder
