"""The benchmarks of an evaluation, read once for all models: tables found or fetched, and their questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moslora_xtuner.errors import DataError
from moslora_xtuner.progress import note

from . import registry, tables
from .checking.finding import Weight, grouped
from .checking.look import Look, part, refusal
from .checksums import Table, check, hashes
from .download import obtain, source
from .questions import Task, ask_all
from .registry import Benchmark


@dataclass(frozen=True)
class LoadedTask(Task):
    """A task, which file it was read from, and what was found there.

    Attributes:
        tsv: the file.
        table: its hashes, and whose it is.
        never_right: the indices of the questions to which no answer can be counted as right.
        left_out: the indices of the rows that are not asked.
        because: why, a line for each kind of fault.
        said: what else a reader should know of the table, a line for each kind; first what costs points.
    """

    tsv: Path
    table: Table
    never_right: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()
    because: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def unanswerable(self) -> int:
        """How many of the questions asked nobody can answer rightly: VLMEvalKit counts them as wrong."""
        return sum(str(item.index) in self.never_right for item in self.asked)


@dataclass(frozen=True)
class Looked:
    """A benchmark's table, looked at."""

    benchmark: Benchmark
    file: Table
    look: Look

    @property
    def has_answers(self) -> bool:
        """Whether the answers are in the table, or held back."""
        return any(cell.strip() for cell in self.look.table.column("answer"))


def load(
    chosen: Sequence[Benchmark],
    data_root: Path | None,
    log: Path,
    *,
    limit: int | None = None,
    skip_bad: int = 0,
    kit_fixes: bool = False,
    download: bool = False,
    quiet: bool = False,
) -> list[LoadedTask]:
    """The benchmarks' questions; beside a test set whose answers are held back, its dev set where that is there.

    Every table is looked at whole before any is made questions of.

    Args:
        limit: only that many units (circular groups, image pairs, questions) of each.
        skip_bad: so many rows with faults may be left out of each.
        kit_fixes: whether known defects of VLMEvalKit are corrected.
        download: fetch tables that are not here.
        quiet: no notes.

    Raises:
        DataError: tables are missing, or have more faults than that; it names all of them.
    """
    looked = look_at_all(chosen, data_root, log, kit_fixes=kit_fixes, download=download, quiet=quiet)
    if any(item.look.faults and not item.look.skippable(skip_bad) for item in looked):
        raise DataError(refusal([item.look for item in looked], skip_bad))
    return [_task(item, data_root, log, limit, skip_bad, kit_fixes, quiet) for item in looked]


def look_at_all(
    chosen: Sequence[Benchmark],
    data_root: Path | None,
    log: Path,
    *,
    kit_fixes: bool = False,
    download: bool = False,
    quiet: bool = False,
) -> list[Looked]:
    """Each table read whole and looked at, as `load` has it."""
    found: list[Looked] = []
    queue = list(chosen)
    for benchmark in queue:
        file = _table(benchmark, data_root, log, download, quiet)
        table = tables.read(benchmark, data_root)
        look = tables.look_at(benchmark, table, data_root, registered=file.known, kit_fixes=kit_fixes)
        found.append(Looked(benchmark, file, look))
        beside = None if found[-1].has_answers else registry.dev_of(benchmark)
        if beside is not None and beside not in queue:
            path = table.path
            if download or path.with_name(f"{beside.dataset}.tsv").is_file():
                queue.append(beside)
            else:
                note(
                    f"{path.name} holds no answers and {beside.dataset}.tsv is not there: this benchmark has no score",
                    quiet,
                )
        newer = registry.STANDS_IN.get(benchmark.dataset)
        if newer is not None and not found[-1].has_answers:
            note(f"{newer} has public answers since 2026: with its table --benchmarks paper scores it", quiet)
    for item in found:
        if item.file.official is False and item.file.release is not None:
            note(f"{item.look.table.path.name}: the release of {item.file.release}", quiet)
    foreign = [item.look.table.path.name for item in found if item.file.official is False and not item.file.known]
    if foreign:
        what = "is not the file that VLMEvalKit registers" if len(foreign) == 1 else "are not VLMEvalKit's files"
        note(f"{', '.join(foreign)}: {what} (by md5)", quiet)
    return found


def _task(
    looked: Looked,
    data_root: Path | None,
    log: Path,
    limit: int | None,
    skip_bad: int,
    kit_fixes: bool,
    quiet: bool,
) -> LoadedTask:
    """The questions of one table; says what a reader should know of it."""
    benchmark, look = looked.benchmark, looked.look
    rest = part(look, skip_bad)
    dataset = tables.build_dataset(benchmark, data_root, log, rest.table, kit_fixes=kit_fixes)
    there = {str(index) for index in dataset.data["index"]}
    dropped = [index for index in rest.table.column("index") if index not in there]
    because = [*rest.because, *(["no picture: VLMEvalKit leaves such rows out"] if dropped else [])]
    indices = look.table.column("index")
    said = grouped(item for item in look.findings if item.weight is Weight.SAID)
    never = grouped(item for item in look.findings if item.weight is Weight.NEVER_RIGHT)
    if gone := len(rest.left_out) + len(dropped):
        note(f"{benchmark.dataset}: {gone} rows are not asked: {'; '.join(because)}", quiet)
    for line in (*never, *said):
        note(f"{benchmark.dataset}: {line}", quiet)
    return LoadedTask(
        benchmark,
        dataset,
        ask_all(benchmark, dataset, data_root, limit),
        look.table.path,
        looked.file,
        frozenset(indices[row] for row in look.never_right),
        (*rest.left_out, *dropped),
        tuple(because),
        (*never, *said),
    )


def _table(benchmark: Benchmark, data_root: Path | None, log: Path, download: bool, quiet: bool) -> Table:
    """Which file the benchmark's TSV is; fetched first where that is asked for."""
    if benchmark.table is not None:
        return Table(hashes(tables.tsv_path(benchmark, None)).sha256, official=None, changed=False)
    assert data_root is not None
    if benchmark.kind == "label":
        table = check(data_root, benchmark.file_name)
    elif download:
        table = obtain(benchmark, data_root, log, quiet=quiet)
    else:
        table = check(data_root, benchmark.dataset, source(benchmark, log)[1])
    if table.changed:
        note(f"{benchmark.file_name}.tsv is another file than the last time: it is asked and scored anew", quiet)
    return table
