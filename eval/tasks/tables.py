"""A benchmark's TSV as VLMEvalKit's own dataset object: read from here and nowhere else, texts left as texts."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError, UsageError

from ..vlmeval_imports import captured, environment, import_datasets
from . import label_table, own_table
from .prompts import is_blank, options
from .registry import Benchmark


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
        made = "small-worlds" if benchmark.group == "small-worlds" else "commonsense DIR"
        raise DataError(
            f"{path} does not exist: make it with `moslora data {made} -o OUT` and name OUT/LMUData with --data-root"
        )
    if not path.is_file():
        raise DataError(
            f"{path} does not exist. Put the TSV of {benchmark.dataset} there, or name another folder with "
            "--data-root (or LMUData). Nothing is downloaded without being asked for (--download)."
        )
    return path


def _read_tsv(path: Path) -> Any:
    """The table as VLMEvalKit reads it, except that texts stay texts.

    pandas would make 3.0 of the option 3 in a column with gaps, and the model would be asked about "3.0".
    """
    import pandas

    texts = [*string.ascii_uppercase, "question", "answer", "hint", "category", "l2-category", "image_path"]
    try:
        frame = pandas.read_csv(path, sep="\t", dtype=dict.fromkeys(texts, str))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a TSV: {error}.") from error
    missing = [name for name in ("index", "question") if name not in frame]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: it is no table of VLMEvalKit.")
    if frame["index"].duplicated().any():
        twice = frame["index"][frame["index"].duplicated()].iloc[0]
        raise DataError(f"{path} holds the index {twice} twice.")
    if not frame.shape[0]:
        raise DataError(f"{path} holds no question.")
    return frame


def build_dataset(benchmark: Benchmark, data_root: Path | None, log: Path) -> Any:
    """`local_dataset` with VLMEvalKit's chatter in `log`; a table of labels is none of VLMEvalKit's."""
    if benchmark.kind == "label":
        return label_table.read(benchmark, tsv_path(benchmark, data_root))
    import_datasets(log)
    with captured(log):
        return local_dataset(benchmark, data_root)


def local_dataset(benchmark: Benchmark, data_root: Path | None) -> Any:
    """VLMEvalKit's own dataset object for a benchmark, reading the local TSV and nothing else.

    A subclass that changes `load_data` alone (as VLMEvalKit's CustomMCQDataset does): prompts that need
    it, images and all scoring are VLMEvalKit's. Raises DataError for a missing or broken TSV.
    """
    import vlmeval.dataset as datasets

    path = tsv_path(benchmark, data_root)
    base = getattr(datasets, benchmark.vlmeval_class)
    frame = _read_tsv(path) if benchmark.table is None else own_table.load(benchmark)
    own = {"load_data": lambda self, name: frame}
    local = type(f"Local{benchmark.vlmeval_class}", (base,), own)
    with environment(LMUData=str(path.parent)):
        try:
            dataset = local(benchmark.vlmeval_name)
        except (AssertionError, KeyError) as error:
            raise DataError(
                f"{path}: VLMEvalKit cannot use this table ({type(error).__name__}: {error}); an `image` "
                "cell must hold base64 text or the index of a row that does."
            ) from error
        except (ValueError, SyntaxError, TypeError) as error:
            raise DataError(
                f"{path}: a cell of `image` or `image_path` begins like a list and is none ({error})."
            ) from error
    if benchmark.circular and not all(isinstance(index, int) for index in dataset.data["index"]):
        raise DataError(f"{path}: circular evaluation needs whole numbers in the column `index`.")
    return dataset


def has_answers(dataset: Any) -> bool:
    """Tell whether the answers are in the table, or held back."""
    return "answer" in dataset.data and not all(is_blank(value) for value in dataset.data["answer"])


def unanswerable(benchmark: Benchmark, dataset: Any) -> int:
    """How many questions nobody can answer rightly: the answer is missing, or names none of the options.

    VLMEvalKit counts them as wrong.
    """
    rows = dataset.data.drop(columns=["image"], errors="ignore").to_dict("records")
    if benchmark.kind != "mcq":
        return sum(is_blank(row["answer"]) for row in rows)
    return sum(str(row["answer"]) not in options(row) for row in rows)
