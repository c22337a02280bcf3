"""A corrected copy of records: what can be mended is, what cannot is left out, and all of it is said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...atomic import atomic_file, json_line
from ...errors import OutputError, UsageError
from ..reading.sources import Broken, Source
from .check import CHUNK, Progress
from .mending import Change, mend
from .worker import Examiner, Rules, too_deep


@dataclass
class Mended:
    """What a corrected copy is.

    Attributes:
        path: the copy.
        changes: beside it, every change and every record that was left out, one JSON a line.
        records: in the copy.
        changed: of them, how many differ from the original.
        left_out: records that could not be mended.
        kinds: how often what was done.
    """

    path: Path
    changes: Path
    records: int = 0
    changed: int = 0
    left_out: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        """What was done, by kind."""
        lines = [f"{self.path}: {self.records} records, {self.changed} of them changed, {self.left_out} left out"]
        lines += [f"  {kind}: {count}" for kind, count in self.kinds.most_common()]
        return "\n".join([*lines, f"  each of them: {self.changes}"])


def mend_all(source: Source, rules: Rules, out: Path, progress: Progress | None = None) -> Mended:
    """Write the corrected copy: `.jsonl` with a record a line, any other name as a JSON list.

    Raises:
        OutputError: `out` exists or cannot be written.
        UsageError: `out` is the source.
    """
    if out.exists():
        if out.resolve() == source.reader.path.resolve():
            raise UsageError(f"{out} is the file to be mended: give the copy another name")
        raise OutputError(f"{out} exists: give the corrected copy another name")
    made = Mended(out, out.with_name(f"{out.name}.changes.jsonl"))
    lines = out.suffix.lower() == ".jsonl"
    # What the check before this has decoded is not decoded again.
    examiner = Examiner(rules.remembering())
    with atomic_file(out) as copy, atomic_file(made.changes) as log:
        copy.write("" if lines else "[")
        for chunk in source.reader.chunks(CHUNK):
            for entry in source.reader.read(chunk):
                if not entry.lost:
                    made.kinds["comma or bracket mended"] += 1
                    continue
                raw, text, done = _mended(entry.raw, entry.position, rules.images)
                record, problems = examiner.judge(replace(entry, raw=raw), source.name)
                if record is None:
                    made.left_out += 1
                    faults = [problem for problem in problems if problem.fault]
                    made.kinds[f"left out: {faults[0].kind}"] += 1
                    _log(log, "left out", (fault.as_json() for fault in faults))
                    continue
                copy.write(("\n" if lines else ",\n") if made.records else ("" if lines else "\n"))
                copy.write(text)
                made.records += 1
                made.changed += bool(done)
                made.kinds.update(change.kind for change in done)
                at = {"record": record.id, "position": entry.position, "byte": entry.byte, "source": source.name}
                _log(log, "changed", ({**change._asdict(), **at} for change in done))
            if progress is not None:
                progress(made.records + made.left_out, made.records + made.left_out)
        copy.write("\n" if lines else "\n]\n")
    return made


def _mended(raw: Any, position: int, images: Path) -> tuple[Any, str, list[Change]]:
    """One record after mending, as it is written, and what was done to it."""
    try:
        made, done = mend(raw, position, images)
        # A table may hold what JSON has no word for, such as a date.
        return made, "" if isinstance(made, Broken) else json.dumps(made, ensure_ascii=False, default=str), done
    except RecursionError:
        return too_deep(raw), "", []


def _log(log: Any, done: str, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        log.write(json_line({"done": done, **row}).decode())
