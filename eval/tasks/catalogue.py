"""What VLMEvalKit knows beside the benchmarks of benchmarks.py, and which of it is scored here all the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import vlmeval_imports
from .registry import BENCHMARKS, GROUPS, Benchmark

How = Literal["scored here", "scored here, generic", "run.py only"]
_ORDER: tuple[How, ...] = ("scored here", "scored here, generic", "run.py only")

CIRCULAR_CN = ("CCBench",)
PLAIN = ("AI2D_TEST_NO_MASK", "MMStar", "SEEDBench2_Plus", "ScienceQA_VAL")
SHORT = ("ChartQA_TEST", "GQA_TestDev_Balanced", "OCRVQA_TEST", "OCRVQA_TESTCORE")
"""One answer a question. Not the datasets under ANLS (DocVQA, InfoVQA): VLMEvalKit's result of each question is the
mean distance there, not the score, so that no outcomes can be read from it."""


@dataclass(frozen=True)
class Known:
    """A dataset, the class of VLMEvalKit that reads it, whether it is scored here, and the judge of its run.py.

    `judge`: None where it asks none.
    """

    dataset: str
    class_name: str
    how: How
    judge: str | None = None


def known(log: Path) -> list[Known]:
    """Every image dataset that VLMEvalKit reads, and the benchmarks of this project: the scored ones first, by name.

    Raises SetupError when VLMEvalKit is not installed.
    """
    datasets = vlmeval_imports.import_datasets(log)
    owners = {item.dataset: item.vlmeval_class for item in BENCHMARKS.values()}
    types: dict[str, str] = {}
    for owner in [*datasets.IMAGE_DATASET, datasets.ConcatDataset]:
        for name in owner.supported_datasets():
            owners.setdefault(name, owner.__name__)  # of two classes the first reads it
            types.setdefault(name, getattr(owner, "TYPE", ""))
    judges = vlmeval_imports.judges_of(types, log)
    found = [
        Known(name, class_name, _how(name, class_name), item.judge if (item := find(name)) else judges.get(name))
        for name, class_name in owners.items()
    ]
    return sorted(found, key=lambda item: (_ORDER.index(item.how), item.dataset.lower()))


def _how(dataset: str, class_name: str) -> How:
    if dataset in BENCHMARKS:
        return "scored here"
    return "run.py only" if generic(dataset, class_name) is None else "scored here, generic"


def generic(dataset: str, class_name: str) -> Benchmark | None:
    """A further dataset of the classes ImageMCQDataset and ImageVQADataset as a benchmark, or None.

    None also for most datasets of these classes: those with several pictures in a question, several splits in a file,
    scores of their own (MMT-Bench, MMSci, MMVP) or tables of which it is not known that they are of the plain form.
    """
    if class_name == "ImageMCQDataset" and dataset in CIRCULAR_CN + PLAIN:
        return _multiple_choice(dataset)
    if class_name == "ImageVQADataset" and dataset in SHORT:
        return Benchmark(dataset, dataset, dataset, "other", "vqa", class_name, max_new_tokens=32)
    return None


def by_name(dataset: str) -> Benchmark | None:
    """The same by the name alone, without importing VLMEvalKit."""
    return generic(dataset, "ImageMCQDataset") or generic(dataset, "ImageVQADataset")


def find(dataset: str) -> Benchmark | None:
    """What `moslora eval` scores under this name, or None."""
    return BENCHMARKS.get(dataset) or by_name(dataset)


def _multiple_choice(dataset: str) -> Benchmark:
    circular = dataset not in PLAIN
    return Benchmark(
        dataset, dataset, dataset, "other", "mcq", "ImageMCQDataset",
        language="cn" if dataset in CIRCULAR_CN else "en",
        judge="gpt-4o-mini",
        circular=circular,
        unit="circular group" if circular else "question",
    )  # fmt: skip


LEGEND = """\
*  one of the nine benchmarks of the paper's Table 5; --benchmarks paper asks these, --benchmarks digits DigitsVQA's.
how: scored here: asked, scored and reported by moslora eval, with its own place in tables; generic: likewise, as one of
     a plain form; run.py only: VLMEvalKit's own program asks our models (python -m moslora_xtuner.eval.vlmevalkit).
judge: whom VLMEvalKit's run.py has read answers; - asks nobody. moslora eval asks whom --judge names, else nobody;
     "needed": there is no score without one.
TSV: whether the table is in the data root."""


def listing(found: list[Known], data_root: Path | None = None) -> str:
    """A table for a terminal: dataset, class, how it is scored, its judge, and whether its TSV is in the data root."""
    rows: list[tuple[str, ...]] = [("", "dataset", "class", "how", "judge", "TSV")]
    for item in found:
        benchmark = find(item.dataset)
        file = benchmark.file_name if benchmark is not None else item.dataset
        here = data_root is not None and (data_root / f"{file}.tsv").is_file()
        mark = "*" if benchmark is not None and item.dataset in GROUPS["paper"] else ""
        judge = f"{item.judge or '-'}{', needed' if benchmark is not None and benchmark.needs_judge else ''}"
        rows.append((mark, item.dataset, item.class_name, item.how, judge, "yes" if here else "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([*(line.rstrip() for line in lines), "", LEGEND])
