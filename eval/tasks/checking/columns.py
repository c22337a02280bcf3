"""Columns: those without which VLMEvalKit fails after the last question, and words that differ in case from its own."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import replace

from ..registry import Benchmark
from ..tsv import Tsv
from .finding import Finding

KNOWN = (
    "index", "question", "answer", "image", "image_path", "hint", "category", "l2-category", "split", "question_type",
    "answer_type", "answer_option", "choices", "precision", "unit", "task", "skills",
)  # fmt: skip
MATHVISTA = ("question_type", "answer_type", "answer_option", "choices", "task", "skills")
"""What utils/mathvista.py (post_check, MathVista_acc) reads of each row."""


def needed(benchmark: Benchmark) -> tuple[str, ...]:
    """The columns that asking and scoring read, beside `answer`: a table without it is asked, and has no score."""
    more: dict[str, tuple[str, ...]] = {"MathVista": MATHVISTA, "MMVet": ("category",)}
    if benchmark.kind == "mcq":
        return ("index", "question", "A", "B")
    if benchmark.aggregate == "subtask_sum":
        return ("index", "question", "category", "image_path")
    return ("index", "question", *more.get(benchmark.vlmeval_class, ()))


def check(benchmark: Benchmark, table: Tsv) -> Iterator[Finding]:
    """What is wrong with the header. All of it is of the table as a whole."""
    names = _meant(benchmark, table)
    for name, word in names.items():
        if name != word:
            yield Finding(None, "", name, f"VLMEvalKit calls this column {word!r}: write it so")
    there = set(names.values())
    lacking = [name for name in needed(benchmark) if name not in there]
    if not {"image", "image_path"} & there:
        lacking.append("image (base64) or image_path (files)")
    if lacking:
        has = ", ".join(table.columns)
        short = has if len(has) <= 200 else f"{has[:197]}..."
        yield Finding(None, "", "", f"has no column {' and no column '.join(lacking)}. It has: {short}")


def meant(benchmark: Benchmark, table: Tsv) -> Tsv:
    """The table with its columns called as VLMEvalKit calls them, so that the rest of it can be looked at."""
    names = _meant(benchmark, table)
    cells = {names[name]: values for name, values in table.cells.items()}
    return replace(table, columns=tuple(names[name] for name in table.columns), cells=cells)


def _meant(benchmark: Benchmark, table: Tsv) -> dict[str, str]:
    """Each column's name, and the one that VLMEvalKit has for it; none is given twice."""
    known = {_plain(name): name for name in KNOWN}
    known |= {letter.lower(): letter for letter in string.ascii_uppercase if benchmark.kind == "mcq"}
    found: dict[str, str] = {}
    for name in table.columns:
        word = known.get(_plain(name), name)
        found[name] = name if word in table.columns or word in found.values() else word
    return found


def _plain(name: str) -> str:
    """A header's word without what people write otherwise: case, blanks, hyphens and underscores."""
    return "".join(sign for sign in name.lower() if sign not in " -_\t\ufeff")
