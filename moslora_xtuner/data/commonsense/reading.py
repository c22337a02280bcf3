"""LLM-Adapters' files: found, held against the published ones, and read strictly."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any

from ...errors import DataError
from .sets import EVERY_LABEL, SAYS, SETS, TRAINING, TRAINING_BLOB, WHERE, QuestionSet

_NAMED = 8
"""So many faults are told one by one."""
_FIELDS = ("instruction", "input", "output", "answer")


@dataclass(frozen=True)
class Sample:
    """One question with its answer."""

    instruction: str
    output: str
    answer: str


@dataclass(frozen=True)
class Source:
    """One file.

    Attributes:
        name: in LLM-Adapters' tree.
        samples: its questions.
        blob: git's hash of the file.
        published: whether it is the published file.
        inputs: records whose `input` is not empty, which the authors' evaluation leaves unread.
    """

    name: str
    samples: tuple[Sample, ...]
    blob: str
    published: bool
    inputs: int


def git_blob(content: bytes) -> str:
    """The hash by which git knows a file's content."""
    return sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest()


def find(folder: Path, wanted: Iterable[str]) -> dict[str, Path]:
    """The files by their names in LLM-Adapters' tree.

    Raises:
        DataError: names all that are missing, and where they are got.
    """
    found = {name: folder / name for name in wanted}
    lacking = [name for name, path in found.items() if not path.is_file()]
    if lacking:
        raise DataError(f"{folder} lacks {', '.join(lacking)}: they are in {WHERE} (git clone it and name its folder)")
    return found


def read_test(path: Path, which: QuestionSet) -> Source:
    """A test set. Raises DataError, naming the records, where it cannot be asked or scored."""
    return _read(path, which.path, which.blob, frozenset(which.labels))


def read_training(path: Path) -> Source:
    """The training questions. Raises DataError, naming the records, where they cannot be learnt as they stand."""
    source = _read(path, TRAINING, TRAINING_BLOB, EVERY_LABEL)
    if source.inputs:
        raise DataError(
            f"{path}: {source.inputs} records have an `input`, which no published one has and the template has no "
            "place for: put it into the instruction"
        )
    return source


def require_published(sources: Sequence[Source]) -> None:
    """Stop where a file is another one than was published.

    Raises:
        DataError: names each, with its count of records and that of the published file.
    """
    counts = {which.path: which.count for which in SETS}
    others = [
        f"{source.name} ({len(source.samples)} records{_against(counts.get(source.name))}, git blob {source.blob})"
        for source in sources
        if not source.published
    ]
    if others:
        raise DataError(
            f"not as published: {'; '.join(others)}. Scores of other questions are not the paper's: fetch the files "
            f"again from {WHERE}, or take them as they are with --changed"
        )


def _against(count: int | None) -> str:
    return "" if count is None else f", published {count}"


def _read(path: Path, name: str, blob: str, labels: frozenset[str]) -> Source:
    try:
        content = path.read_bytes()
        records = json.loads(content)
    except (OSError, ValueError) as fault:
        raise DataError(f"{path} cannot be read as JSON ({fault}): fetch it again from {WHERE}") from fault
    if not isinstance(records, list) or not records:
        raise DataError(f"{path} holds no list of records: fetch it again from {WHERE}")
    faults = [f"record {place}: {why}" for place, record in enumerate(records) for why in _faults(record, labels)]
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(f"{path}: {len(faults)} faults: {'; '.join(faults[:_NAMED])}{more}")
    found = git_blob(content)
    samples = tuple(Sample(record["instruction"], record["output"], record["answer"]) for record in records)
    return Source(name, samples, found, found == blob, sum(bool(record["input"]) for record in records))


def _faults(record: Any, labels: frozenset[str]) -> Iterable[str]:
    """What is wrong with one record."""
    if not isinstance(record, dict):
        yield f"a {type(record).__name__}, not an object"
        return
    wrong = [field for field in _FIELDS if not isinstance(record.get(field, "" if field == "input" else None), str)]
    if wrong:
        yield f"no text under {', '.join(wrong)}"
        return
    record.setdefault("input", "")
    if not record["instruction"].strip():
        yield "no instruction"
    if record["answer"] not in labels:
        yield f"the answer {record['answer']!r} is none of the set's labels"
    elif record["output"].strip() != f"{SAYS}{record['answer']}":
        yield f"the output {record['output']!r} is not {SAYS + record['answer']!r}"
