"""Check records and their images before anything is spent on them: all of them, on all cores, in flat memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ...errors import DataError
from ...parallel import cores, in_order
from ..images.seen import LedgerWriter
from ..problem_kinds import FAULTS, Kind
from ..reading.problems import Problem, Tally
from ..reading.sources import Chunk, Source
from ..reading.sources.packed import packed
from .worker import Examined, Examiner, Rules

CHUNK = 500
"""Records that one process takes at a time: about a megabyte of the mix's text."""
Progress = Callable[[int, int], None]
"""Called with the records that are done, and about how many there are."""


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        sources: the inputs' names.
        images: the image folder.
        records: all that were read, sound or not.
        bad: those with a fault.
        text_only: sound ones without an image.
        tally: the problems by kind.
        by_folder: records by the first folder of their image, '' without one.
        missing: those of them whose image is not there.
    """

    sources: list[str]
    images: Path
    records: int = 0
    bad: int = 0
    text_only: int = 0
    tally: Tally = field(default_factory=Tally)
    by_folder: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> int:
        """Faults of all kinds; a record may have several."""
        return sum(count for _, count in self.tally.kinds(fault=True))

    def table(self) -> str:
        """The problems by kind, with counts and up to three examples each; one line if there are none."""
        name = ", ".join(self.sources)
        sound = self.records - self.bad
        lines = [
            f"{name}: {self.records} records, {self.text_only} text only, "
            + (f"{self.faults} faults in {self.bad} records" if self.faults else "no faults")
        ]
        for fault in (True, False):
            for kind, count in self.tally.kinds(fault):
                lines.append(f"  {kind}: {count}" + ("" if fault else " (remark)"))
                lines += [f"    {problem}" for problem in self.tally.examples[kind][:3]]
                if fault:
                    lines.append(f"    -> {FAULTS[kind]}")
        if self.faults:
            lines.append(f"  sound: {sound}")
        return "\n".join(lines)

    def within(self, skip_bad: float) -> bool:
        """Whether no more than this share of the records is bad, and nothing else is."""
        return self.faults == 0 or (skip_bad > 0 and self.bad <= skip_bad * self.records)

    def advice(self, skip_bad: float) -> str:
        """What to do about data that is not sound, in one line."""
        share = 100 * self.bad / max(self.records, 1)
        budget = f", more than --skip-bad {100 * skip_bad:g}% allows" if skip_bad else ""
        return (
            f"{self.bad} of {self.records} records are bad ({share:.2g} %){budget}: mend them "
            "(`moslora data check --fix FILE` does what can be done), or leave them out with a budget (--skip-bad 1%)"
        )


def check(
    sources: list[Source],
    rules: Rules,
    *,
    workers: int | None = None,
    each: Callable[[Examined], None] | None = None,
    problem: Callable[[Problem], None] | None = None,
    progress: Progress | None = None,
    recheck: bool = False,
) -> CheckReport:
    """Read every record and open every image; never stop at a problem.

    Args:
        sources: of `open_sources`.
        rules: what to hold the records against; their sources and ledger are filled in here.
        workers: processes; all cores by default.
        each: takes what came of each chunk, in order.
        problem: takes every problem, in the order of the records.
        progress: called after each chunk.
        recheck: decode images again that an earlier check has decoded.

    Raises:
        DataError: a source cannot be read at all, or the image folder is not there though records name images.
    """
    if rules.decode and rules.images.is_file():
        what = packed(rules.images)
        raise DataError(f"{rules.images} is {what[0] if what else 'a file'}, not the folder of the images: unpack it")
    rules = replace(rules, sources=tuple(sources)).remembering()
    # A broken ledger is begun anew by its writer, so readers come after it.
    writer = LedgerWriter(rules.ledger) if rules.ledger is not None else None
    if recheck:
        rules = replace(rules, ledger=None)
    report = CheckReport([source.name for source in sources], rules.images)
    pace = _Pace(sources)
    repeats = _Repeats(sources)
    try:
        for made in in_order(partial(Examiner, rules), _jobs(sources), workers or cores()):
            report.records += made.records
            report.bad += made.bad
            report.text_only += made.text_only
            report.by_folder += made.by_folder
            report.missing += made.missing
            problems = sorted([*made.problems, *repeats.of(made)], key=lambda p: p.position)
            report.tally.add(problems)
            if writer is not None:
                writer.add(made.learnt)
            if problem is not None:
                for found in problems:
                    problem(found)
            if each is not None:
                each(made)
            if progress is not None:
                progress(report.records, pace.total(made, report.records))
    finally:
        if writer is not None:
            writer.close()
    if report.records == 0:
        raise DataError(f"{', '.join(report.sources)} holds no record: give a LLaVA JSON with at least one")
    if rules.decode and not rules.images.is_dir() and report.missing.total():
        raise DataError(f"the image folder {rules.images} does not exist, but {report.missing.total()} records need it")
    return report


def _jobs(sources: list[Source]) -> Iterator[tuple[int, Chunk]]:
    for place, source in enumerate(sources):
        for chunk in source.reader.chunks(CHUNK):
            yield place, chunk


class _Pace:
    """Guesses how many records there are from how far the reading is."""

    def __init__(self, sources: list[Source]) -> None:
        self.sizes = [source.reader.size_hint() for source in sources]
        self.sources = sources

    def total(self, made: Examined, records: int) -> int:
        """About how many records there are in all."""
        done = sum(self.sizes[: made.source]) + self.sources[made.source].reader.progress(made.chunk)
        share = done / max(sum(self.sizes), 1)
        return records if share >= 0.999 else max(records, round(records / max(share, 1e-9)))


class _Repeats:
    """Ids that were there before. 64 bits of each are kept: a wrong alarm once in 10^7 runs of the whole mix."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources = sources
        self.seen: dict[int, tuple[int, int] | int] = {}

    def of(self, made: Examined) -> Iterator[Problem]:
        """A remark for each id that an earlier record has."""
        source = self.sources[made.source].name
        for position, byte, name in made.names:
            # Most data is one source: a bare number is a fifth of a pair's memory.
            here = position if made.source == 0 else (made.source, position)
            first = self.seen.setdefault(hash(name), here)
            if first != here:
                of, at = first if isinstance(first, tuple) else (0, first)
                where = "" if of == made.source else f" of {self.sources[of].name}"
                yield Problem(Kind.DUPLICATE_ID, name, position, f"the same id as record {at}{where}", byte, source)
