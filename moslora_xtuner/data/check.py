"""Check a LLaVA JSON and its images before anything is spent on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from .images import open_image
from .records import Problem, Record, iterate_json, read_record


@dataclass
class CheckReport:
    """What a check found: sound records, and every problem in the order of the file."""

    json_path: Path
    records: int = 0
    text_only: int = 0
    problems: list[Problem] = field(default_factory=list)

    def table(self) -> str:
        """The problems by kind, with counts and up to three examples each; one line if there are none."""
        head = f"{self.json_path}: {self.records} records, {self.text_only} text only"
        if not self.problems:
            return f"{head}, no problems"
        lines = [f"{head}, {len(self.problems)} problems"]
        for kind, count in Counter(problem.kind for problem in self.problems).most_common():
            lines.append(f"  {kind}: {count}")
            examples = [problem for problem in self.problems if problem.kind == kind][:3]
            lines += [f"    record {p.position} (id {p.record}): {p.detail}" for p in examples]
        return "\n".join(lines)


def check_json(
    json_path: Path,
    images: Path,
    *,
    decode: bool = True,
    progress: Callable[[int], None] | None = None,
) -> tuple[CheckReport, list[Record]]:
    """Read every record and, with `decode`, open every image; never stop at the first problem.

    Returns the report and the sound records in their order.

    Raises:
        DataError: the file cannot be read at all.
    """
    report = CheckReport(json_path)
    sound: list[Record] = []
    seen: dict[str, int] = {}
    for position, raw in enumerate(iterate_json(json_path)):
        report.records += 1
        record, problems = read_record(raw, position)
        name = str(raw["id"]) if isinstance(raw, dict) and raw.get("id") is not None else None
        if name is not None and seen.setdefault(name, position) != position:
            problems.append(Problem("duplicate id", name, position, f"the same id as record {seen[name]}"))
        if record is not None and not problems and record.image is not None and decode:
            try:
                open_image(images, record.image)
            except DataError as fault:
                problems = [Problem("image", record.id, position, str(fault))]
        report.problems += problems
        if record is not None and not problems:
            report.text_only += record.image is None
            sound.append(record)
        if progress is not None:
            progress(report.records)
    if report.records == 0:
        raise DataError(f"{json_path} holds no record: give a LLaVA JSON with at least one")
    return report, sound
