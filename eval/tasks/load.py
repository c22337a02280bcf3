"""The benchmarks of an evaluation, read once for all models: tables found or fetched, and their questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moslora_xtuner.progress import note

from . import registry, tables
from .checksums import Table, check, hashes
from .download import obtain, source
from .questions import Task, ask_all
from .registry import Benchmark


@dataclass(frozen=True)
class LoadedTask(Task):
    """A task, and which file it was read from."""

    tsv: Path
    table: Table


def load(
    chosen: Sequence[Benchmark],
    data_root: Path | None,
    log: Path,
    *,
    limit: int | None = None,
    download: bool = False,
    quiet: bool = False,
) -> list[LoadedTask]:
    """The benchmarks' questions; beside a test set whose answers are held back, its dev set where that is there.

    Args:
        limit: only that many units (circular groups, image pairs, questions) of each.
        download: fetch tables that are not here.
        quiet: no notes.
    """
    tasks: list[LoadedTask] = []
    queue = list(chosen)
    for benchmark in queue:
        table = _table(benchmark, data_root, log, download, quiet)
        dataset = tables.build_dataset(benchmark, data_root, log)
        asked = ask_all(benchmark, dataset, data_root, limit)
        path = tables.tsv_path(benchmark, data_root)
        tasks.append(LoadedTask(benchmark, dataset, asked, path, table))
        beside = None if tables.has_answers(dataset) else registry.dev_of(benchmark)
        if beside is not None and beside not in queue:
            if download or path.with_name(f"{beside.dataset}.tsv").is_file():
                queue.append(beside)
            else:
                note(
                    f"{path.name} holds no answers and {beside.dataset}.tsv is not there: this benchmark has no score",
                    quiet,
                )
    foreign = [task.tsv.name for task in tasks if task.table.official is False]
    if foreign:
        what = "is not the file that VLMEvalKit registers" if len(foreign) == 1 else "are not VLMEvalKit's files"
        note(f"{', '.join(foreign)}: {what} (by md5)", quiet)
    return tasks


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
