"""What is scored together: the rotations of a circular question, the two questions on a picture of MME."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Iterator, Sequence

from ..registry import MME_COGNITION, MME_PERCEPTION, OFFSET, Benchmark
from ..tsv import NOTHING, Tsv
from . import choices
from .finding import Finding, Weight
from .rows import odd


def check(benchmark: Benchmark, table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    """Groups and pairs that are not whole: VLMEvalKit would score what is there, higher or not at all."""
    if benchmark.circular:
        yield from _rotations(table, called)
    if benchmark.aggregate == "subtask_sum":
        yield from _pairs(table, called)
        there = {cell.strip() for cell in table.column("category")}
        missing = sorted(set(benchmark.subtasks) - there)
        if missing:
            yield Finding(None, "", "category", f"lacks the subtask(s) {', '.join(missing)}: they would count as 0")


def members(benchmark: Benchmark, table: Tsv) -> list[str]:
    """The unit of each row; a row that belongs to none is one of its own."""
    if benchmark.circular:
        return [
            str(int(index) % OFFSET) if odd(index, circular=True) is None and index.strip() else f"row {row}"
            for row, index in enumerate(table.column("index"))
        ]
    if benchmark.aggregate == "subtask_sum":
        return [
            f"{category}/{image}" if image.strip() else f"row {row}"
            for row, (category, image) in enumerate(
                zip(table.column("category"), table.column("image_path"), strict=True)
            )
        ]
    return [str(row) for row in range(len(table))]


def _rotations(table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    indices = table.column("index")
    groups: dict[int, dict[int, int]] = defaultdict(dict)
    for row, index in enumerate(indices):
        if index.strip() and odd(index, circular=True) is None:
            turn, question = divmod(int(index), OFFSET)
            groups[question].setdefault(turn, row)
    rows = table.rows("image")
    for question, turns in groups.items():
        place = min(turns.values())
        if 0 not in turns:
            what = f"there are rotations of {question}, but not itself: VLMEvalKit does not count them"
            yield Finding(place, called[place], "index", what)
            continue
        there = choices.written(rows[turns[0]])
        wanted = len(there)
        lacking = [str(question + turn * OFFSET) for turn in range(wanted) if turn not in turns]
        if lacking:
            what = f"{wanted} options, but no rotation {', '.join(lacking)}: it would be easier than it is meant"
            yield Finding(turns[0], called[turns[0]], "index", what)
        right = _right(rows[turns[0]])
        for row in turns.values():
            options = choices.written(rows[row])
            if sorted(options.values()) != sorted(there.values()):
                what = f"its options are other texts than those of {question}"
                yield Finding(row, called[row], "", what, Weight.SAID)
            elif right and _right(rows[row]) not in ("", right):
                what = f"its right option is another text than that of {question}"
                yield Finding(row, called[row], "answer", what, Weight.SAID)


def _right(row: dict[str, str]) -> str:
    answer = row.get("answer", "")
    return row.get(answer, "") if answer in string.ascii_uppercase else ""


def _pairs(table: Tsv, called: Sequence[str]) -> Iterator[Finding]:
    pairs: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (category, image) in enumerate(zip(table.column("category"), table.column("image_path"), strict=True)):
        if category.strip() not in NOTHING and category not in MME_PERCEPTION + MME_COGNITION:
            what = f"{category!r} is no subtask of MME: VLMEvalKit leaves it out of the sum"
            yield Finding(row, called[row], "category", what)
        if not image.strip():
            yield Finding(row, called[row], "image_path", "no image_path: it says which two questions are a pair")
        else:
            pairs[category, image].append(row)
    for (category, image), rows in pairs.items():
        if len(rows) != 2:
            count = "one question" if len(rows) == 1 else f"{len(rows)} questions"
            what = f"{category}: {image} has {count}, MME needs two on each picture"
            yield Finding(rows[0], called[rows[0]], "image_path", what)
