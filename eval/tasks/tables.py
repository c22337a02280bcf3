"""A benchmark's TSV as VLMEvalKit's own dataset object: read from here and nowhere else, texts left as texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError, UsageError

from ..vlmeval_imports import captured, environment, import_datasets
from . import label_table, own_table, tsv
from .checking import rows
from .checking.look import Look, look, refusal
from .frame import frame_of
from .pictures import locate
from .prompts import is_blank
from .registry import Benchmark
from .tsv import Tsv


def tsv_path(benchmark: Benchmark, data_root: Path | None) -> Path:
    """Where a benchmark's TSV stands. Raises DataError when it is not there: nothing is downloaded."""
    if benchmark.table is not None:
        if not benchmark.table.is_file():
            raise DataError(f"{benchmark.table} does not exist.")
        return benchmark.table
    if data_root is None:
        raise UsageError("eval does not know where the TSV files are: give --data-root DIR or set LMUData")
    path = data_root / f"{benchmark.file_name}.tsv"
    if not path.is_file() and benchmark.kind == "label":
        raise DataError(f"{path} does not exist: {_made_by(benchmark)}")
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Put the TSV of {benchmark.dataset} there, or name another folder with "
            "--data-root (or LMUData). Nothing is downloaded without being asked for (--download)."
        )
    return path


def all_there(benchmarks: Sequence[Benchmark], data_root: Path | None) -> None:
    """Raise DataError naming every table that is not there."""
    lacking: list[tuple[Benchmark, DataError]] = []
    for benchmark in benchmarks:
        try:
            tsv_path(benchmark, data_root)
        except DataError as fault:
            lacking.append((benchmark, fault))
    if len(lacking) == 1:
        raise lacking[0][1]
    if lacking:
        names = [item.file_name + ".tsv" if item.table is None else str(item.table) for item, _ in lacking]
        how = [_made_by(item) for item, _ in lacking if item.kind == "label"]
        if len(how) < len(lacking):
            how.append(
                f"put VLMEvalKit's into {data_root}, or name another folder with --data-root (or LMUData); nothing is "
                "downloaded without being asked for (--download)"
            )
        said = ", ".join(dict.fromkeys(names))
        raise DataError(
            f"{len(set(names))} tables are not there: {said}. To have them: {'; '.join(dict.fromkeys(how))}."
        )


def _made_by(benchmark: Benchmark) -> str:
    """How a table of labels comes about."""
    made = "small-worlds" if benchmark.group == "small-worlds" else "commonsense DIR"
    return f"make it with `moslora data {made} -o OUT` and name OUT/LMUData with --data-root"


def read(benchmark: Benchmark, data_root: Path | None) -> Tsv:
    """The table as it stands. Raises DataError when it is missing or cannot be read."""
    table = tsv.read(tsv_path(benchmark, data_root))
    return own_table.numbered(table) if benchmark.table is not None else table


def look_at(
    benchmark: Benchmark, table: Tsv, data_root: Path | None, *, registered: bool = False, kit_fixes: bool = False
) -> Look:
    """Everything that is wrong with a table, a benchmark's or one's own."""
    if benchmark.table is not None:
        return Look(benchmark, table, tuple(own_table.check(benchmark, table)))
    if benchmark.kind == "label":
        return Look(benchmark, table, tuple(label_table.check(benchmark, table)))
    return look(benchmark, table, data_root, registered=registered, kit_fixes=kit_fixes)


def build_dataset(
    benchmark: Benchmark, data_root: Path | None, log: Path, table: Tsv | None = None, *, kit_fixes: bool = False
) -> Any:
    """`local_dataset` with VLMEvalKit's chatter in `log`; a table of labels is none of VLMEvalKit's."""
    if benchmark.kind == "label":
        return label_table.read(benchmark, read(benchmark, data_root) if table is None else table)
    import_datasets(log)
    with captured(log):
        return local_dataset(benchmark, data_root, table, kit_fixes=kit_fixes)


def local_dataset(
    benchmark: Benchmark, data_root: Path | None, table: Tsv | None = None, *, kit_fixes: bool = False
) -> Any:
    """VLMEvalKit's own dataset object for a benchmark, reading the local TSV and nothing else.

    A subclass that changes `load_data` alone (as VLMEvalKit's CustomMCQDataset does): prompts that need
    it, images and all scoring are VLMEvalKit's. Raises DataError for a missing or broken TSV.

    Args:
        table: what is asked, where that is not all of the file.
        kit_fixes: whether options None and NA are offered.
    """
    import vlmeval.dataset as datasets

    path = tsv_path(benchmark, data_root)
    whole = read(benchmark, data_root) if table is None else table
    if table is None and benchmark.table is None:
        _check_columns(benchmark, whole)
    elif table is None and (found := look_at(benchmark, whole, data_root)).faults:
        raise DataError(refusal([found]))
    frame = own_table.frame(benchmark, whole) if benchmark.table else _frame(benchmark, whole, data_root, kit_fixes)
    base = getattr(datasets, benchmark.vlmeval_class)
    local = type(f"Local{benchmark.vlmeval_class}", (base,), {"load_data": lambda self, name: frame})
    with environment(LMUData=str(path.parent)):
        try:
            dataset = local(benchmark.vlmeval_name)
        except (AssertionError, KeyError) as error:
            raise DataError(f"{path}: VLMEvalKit cannot use this table ({type(error).__name__}: {error}).") from error
        except (ValueError, SyntaxError, TypeError) as error:
            raise DataError(
                f"{path}: a cell of `image` or `image_path` begins like a list and is none ({error})."
            ) from error
    if benchmark.circular and not all(isinstance(index, int) for index in dataset.data["index"]):
        raise DataError(f"{path}: circular evaluation needs whole numbers in the column `index`.")
    return dataset


def _frame(benchmark: Benchmark, table: Tsv, data_root: Path | None, kit_fixes: bool) -> Any:
    whole = rows.with_groups(benchmark, table)
    typed = ("answer",) if benchmark.vlmeval_class == "MathVista" else ()  # 14.0 in a column of numbers equals 14
    return frame_of(whole, lambda name: locate(name, data_root, benchmark.dataset), words=kit_fixes, typed=typed)


def _check_columns(benchmark: Benchmark, table: Tsv) -> None:
    """The least without which nobody can use a table. `look_at` finds all else."""
    if not len(table):
        raise DataError(f"{table.path} holds no question.")
    lacking = [name for name in ("index", "question") if name not in table.columns]
    if lacking:
        raise DataError(f"{table.path} has no column {', '.join(lacking)}: it is no table of VLMEvalKit.")
    twice = [item for item in rows.indices(benchmark, table, rows.names(table)) if "twice" in item.what]
    if twice:
        raise DataError(f"{table.path} holds the {twice[0].index} twice.")


def has_answers(dataset: Any) -> bool:
    """Tell whether the answers are in the table, or held back."""
    return "answer" in dataset.data and not all(is_blank(value) for value in dataset.data["answer"])
