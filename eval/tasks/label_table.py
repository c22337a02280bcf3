"""A table of questions that are answered with a label: text alone, read strictly, nothing of VLMEvalKit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError

from .prompts import is_blank
from .registry import Benchmark

_NAMED = 8
"""So many faults are told one by one."""


@dataclass(frozen=True)
class LabelTable:
    """The rows as a DataFrame with index, question and answer, under the name that VLMEvalKit's datasets have."""

    data: Any
    dataset_name: str


def read(benchmark: Benchmark, path: Path) -> LabelTable:
    """Raises DataError naming each row that cannot be asked, or whose answer is none of the benchmark's labels."""
    import pandas

    try:
        frame = pandas.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a TSV: {error}.") from error
    if missing := [name for name in ("index", "question", "answer") if name not in frame]:
        raise DataError(f"{path} has no column {', '.join(missing)}: make it with `moslora data commonsense`.")
    rows = frame.to_dict("records")
    faults = [f"index {row['index']}: {why}" for row in rows if (why := _fault(benchmark, row))]
    if doubled := sorted({str(name) for name in frame["index"][frame["index"].duplicated()]}):
        faults.append(f"index {doubled[0]} stands there twice")
    if faults or not rows:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(f"{path}: {'; '.join(faults[:_NAMED]) or 'it holds no question'}{more}.")
    return LabelTable(frame, benchmark.dataset)


def _fault(benchmark: Benchmark, row: Any) -> str:
    if is_blank(row["index"]) or is_blank(row["question"]):
        return "no index or no question"
    if row["answer"] not in benchmark.labels:
        return f"the answer {row['answer']!r} is none of {', '.join(benchmark.labels)}"
    return ""
