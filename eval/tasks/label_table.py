"""A table of questions that are answered with a label: text alone, nothing of VLMEvalKit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moslora_xtuner.errors import DataError

from .checking import rows
from .checking.finding import Finding, Weight
from .checking.look import Look, refusal
from .registry import Benchmark
from .tsv import Tsv


@dataclass(frozen=True)
class LabelTable:
    """The rows as a DataFrame with index, question and answer, under the name that VLMEvalKit's datasets have."""

    data: Any
    dataset_name: str


def check(benchmark: Benchmark, table: Tsv) -> Iterator[Finding]:
    """Everything that is wrong with the table: rows that cannot be asked, answers that are none of the labels."""
    called = rows.names(table)
    if lacking := [name for name in ("index", "question", "answer") if name not in table.columns]:
        yield Finding(None, "", "", f"has no column {', '.join(lacking)}: make it with `moslora data commonsense`")
        return
    if not len(table):
        yield Finding(None, "", "", "holds no question")
    found = [*rows.form(table, called), *rows.indices(benchmark, table, called)]
    found += [item for item in rows.questions(table, called) if item.weight is Weight.FAULT]
    for place, answer in enumerate(table.column("answer")):
        if answer not in benchmark.labels:
            what = f"the answer {answer!r} is none of {', '.join(benchmark.labels)}"
            found.append(Finding(place, called[place], "answer", what))
    yield from sorted(found, key=lambda item: -1 if item.row is None else item.row)


def read(benchmark: Benchmark, table: Tsv) -> LabelTable:
    """Raises DataError naming each row that cannot be asked, or whose answer is none of the benchmark's labels."""
    import pandas

    if faults := list(check(benchmark, table)):
        raise DataError(refusal([Look(benchmark, table, tuple(faults))]))
    return LabelTable(pandas.DataFrame(table.cells, dtype=str), benchmark.dataset)
