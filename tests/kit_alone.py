"""VLMEvalKit alone on a small table: its own reading, prompts, files and scoring; and the cases of tests/eval/cases."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.eval.scoring.patches import judged_by, scratch_table
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, Benchmark
from moslora_xtuner.eval.vlmeval_imports import captured, environment, import_datasets

FOLDER = Path(__file__).resolve().parent / "eval" / "cases"


class Generous:
    """A judge that agrees with every answer and extracts nothing."""

    workers = 2

    def working(self) -> bool:
        return True

    def generate(self, prompt: str, temperature: float = 0, **_: Any) -> str:
        return "1.0" if "Correctness" in prompt else "none"


@dataclass(frozen=True)
class Case:
    """A small table with one thing odd in it.

    Attributes:
        name: of its file, NAME.tsv.
        benchmark: as which it is read.
        kind: what is odd, in words.
        lines: questions that the file holds.
        answers: what the model says, by index.
        right: the score that the answers deserve, per cent, worked out by hand over the questions that can be asked.
        kit: what VLMEvalKit alone makes of it.
        here: the score here, or None where nothing is asked.
        says: what is said of the table, a regular expression; "" where nothing is.
        skipped: the score with the bad rows left out, or None where that is not possible, or not needed.
        fixed: the score with --kit-fixes, where that differs.
    """

    name: str
    benchmark: str
    kind: str
    lines: int
    answers: dict[str, str]
    right: float
    kit: str
    here: float | None
    says: str
    skipped: float | None = None
    fixed: float | None = None

    @property
    def of(self) -> Benchmark:
        return BENCHMARKS[self.benchmark]

    def put(self, folder: Path) -> Path:
        """The table and its pictures in a data root."""
        folder.mkdir(exist_ok=True)
        shutil.copy(FOLDER / f"{self.name}.tsv", folder / f"{self.benchmark}.tsv")
        shutil.copytree(FOLDER / "images", folder / "images", dirs_exist_ok=True)
        return folder


def cases() -> list[Case]:
    """All of them, as cases.json has them."""
    return [Case(**item) for item in json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))]


def kit_alone(case: Case, folder: Path) -> str:
    """What VLMEvalKit makes of a case: the score, and how many questions were asked where not all; or its error."""
    datasets = import_datasets(folder / "log")
    from vlmeval.smp import dump, load

    root = case.put(folder / "kit")
    base = getattr(datasets, case.of.vlmeval_class)
    own = {"load_data": lambda self, name: load(str(root / f"{name}.tsv"))}  # it would fetch another file for its md5
    judge = Generous() if case.of.needs_judge else None
    asked = 0
    settings = {"LMUData": str(root), "PRED_FORMAT": "xlsx", "EVAL_FORMAT": "csv"}
    with environment(**settings), scratch_table(), captured(folder / "log"), judged_by(judge):  # type: ignore[arg-type]
        try:
            dataset = type("Alone", (base,), own)(case.benchmark)
            for place in range(len(dataset.data)):
                dataset.build_prompt(dataset.data.iloc[place])
                asked += 1
            table = dataset.data.drop(columns=["image"], errors="ignore").copy()
            table["prediction"] = [case.answers.get(str(index), "?") for index in table["index"]]
            file = str(root / f"m_{case.benchmark}.xlsx")
            dump(table, file)
            result = dataset.evaluate(file, model="m" if judge else "exact_matching", nproc=2)
            score = _overall(case.of, result.to_dict("records"))
        except Exception as error:
            when = f"after {asked} of {case.lines} questions" if asked else "before the first question"
            return f"{type(error).__name__} {when}"
    return f"{score:.1f}" if asked == case.lines else f"{score:.1f} ({asked} of {case.lines} asked)"


def _overall(benchmark: Benchmark, rows: list[dict[str, Any]]) -> float:
    first = rows[0]
    if benchmark.aggregate == "subtask_sum":
        subtasks = len(set(first) - {"perception", "reasoning"})
        return 100 * (float(first["perception"]) + float(first["reasoning"])) / (benchmark.scale or 200 * subtasks)
    if "Overall" in first:
        return float(first["Overall"]) * (100 if benchmark.kind == "mcq" else 1)
    return float(next(row["acc"] for row in rows if "Overall" in map(str, row.values())))
