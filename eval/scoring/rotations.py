"""Right or wrong for each rotation of a circular question, which VLMEvalKit's files say of whole groups only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..tasks.prompts import options
from ..tasks.registry import EXACT, OFFSET

_NOT_JUDGED = "Failed in Prefetching"
"""How the log of a group begins of which the rules read a wrong answer: VLMEvalKit asks no judge then."""


def hits(
    records: Sequence[Mapping[str, Any]],
    groups: Sequence[Mapping[str, Any]],
    first: Mapping[str, float],
    judge: str,
) -> dict[str, float | None]:
    """1 (right), 0 (wrong) or None (nobody has said) by question index.

    A rotation that the rules read is right where they read its answer. One that they cannot read is wrong without a
    judge; with one it is what the judge has said, in the order in which VLMEvalKit asks, which ends at a group's
    first wrong rotation: what was not asked is None. The first rotation is judged for itself.

    Args:
        records: all rotations, as they were handed to VLMEvalKit.
        groups: the rows of its result file: index, hit and log of each group.
        first: whether each group's first rotation is right (its file `vanilla_circ0`), by index.
        judge: as VLMEvalKit's files name it.
    """
    from vlmeval.utils import can_infer

    rotations: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in sorted(records, key=lambda row: int(row["index"])):
        rotations[int(row["index"]) % OFFSET].append(row)
    found: dict[str, float | None] = {}
    for group in groups:
        rows = rotations[int(group["index"]) % OFFSET]
        read = [can_infer(row["prediction"], options(dict(row))) for row in rows]
        judged = None if judge == EXACT else _judged(rows, read, group)
        for place, (row, letter) in enumerate(zip(rows, read, strict=True)):
            index = str(row["index"])
            if letter:
                found[index] = float(letter == row["answer"])
            else:
                found[index] = 0.0 if judged is None else judged.get(place)
    return found | dict(first)


def _judged(rows: Sequence[Mapping[str, Any]], read: Sequence[Any], group: Mapping[str, Any]) -> dict[int, float]:
    """What the judge has said of the rotations that the rules cannot read, by place; from the group's log.

    A line of the log holds an answer, which may hold anything, a line of a log too: each line is looked for where it
    must begin, and what follows one that is not there is not known.
    """
    unread = [place for place, letter in enumerate(read) if not letter]
    if float(group["hit"]):
        return dict.fromkeys(unread, 1.0)
    log = str(group["log"])
    said: dict[int, float] = {}
    if log.startswith(_NOT_JUDGED):
        return said
    for place, row in enumerate(rows):
        if read[place]:
            line = f"Rolling {place} Matched.\n"
        elif log.startswith(f"Failed in Rolling {place}: "):
            return said | {place: 0.0}
        else:
            answer = row["answer"]
            line = f"Rolling {place}: Answer is {answer}, Prediction is {row['prediction']}, Pre-fetched is {answer}.\n"
            if log.startswith(line):
                said[place] = 1.0
        if not log.startswith(line):
            break
        log = log.removeprefix(line)
    return said
