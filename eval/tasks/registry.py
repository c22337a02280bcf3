"""The benchmarks as data: what VLMEvalKit calls them, how they are asked, where their score stands.

Source: the run script and dataset classes of VLMEvalKit (ms-vlmeval 0.0.20); the splits of Table 5. Those of the kind
`label` are text alone, for language models, and nothing of VLMEvalKit: the sets of Table 4 by the authors' protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moslora_xtuner.data.commonsense.sets import SETS, QuestionSet
from moslora_xtuner.data.worlds import PREFIX
from moslora_xtuner.errors import UsageError

Kind = Literal["mcq", "yesno", "vqa", "open", "label"]
Aggregate = Literal["mean", "subtask_sum"]

EXACT = "exact_matching"
"""VLMEvalKit's name for no judge: options, yes and no are read by its rules."""

ABILITIES = ("AR", "CP", "FP-C", "FP-S", "LR", "RR")
ABILITY_TITLES = {
    "AR": "attribute reasoning",
    "CP": "coarse perception",
    "FP-C": "fine-grained perception, cross-instance",
    "FP-S": "fine-grained perception, single instance",
    "LR": "logical reasoning",
    "RR": "relation reasoning",
}
MME_PERCEPTION = (
    "OCR", "artwork", "celebrity", "color", "count", "existence", "landmark", "position", "posters", "scene",
)  # fmt: skip
MME_COGNITION = ("code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation")
OFFSET = 1_000_000  # rotation k of question i has the index i + k * OFFSET
MME_POINTS = 200.0  # one subtask: accuracy (100) + accuracy+ (100)


@dataclass(frozen=True)
class Benchmark:
    """One dataset of VLMEvalKit and all that a caller must know of it.

    `scale` is the maximum of `overall` in scores.json; None: 200 points for each subtask present.
    `judge` is what VLMEvalKit's own run script takes; `needs_judge`: no score exists without one.
    `unit` is what the bootstrap resamples, `subtasks` those without which the score would be wrong.
    `table`: the file of a benchmark of one's own (own_table.py); `instruction`: whether a question is closed by
    LLaVA-1.5's request for a letter or a word. Of the kind `label`: `labels` are what may be answered, `beams` how many
    are followed when answering, `file` is the table's name where another benchmark reads it too.
    """

    dataset: str
    title: str
    label: str
    group: str
    kind: Kind
    vlmeval_class: str
    language: Literal["en", "cn"] = "en"
    scale: float | None = 100.0
    judge: str | None = None
    needs_judge: bool = False
    circular: bool = False
    split: str | None = None
    unit: str = "question"
    aggregate: Aggregate = "mean"
    subtasks: tuple[str, ...] = ()
    max_new_tokens: int = 16
    table: Path | None = None
    instruction: bool = True
    labels: tuple[str, ...] = ()
    beams: int = 1
    file: str | None = None

    @property
    def file_name(self) -> str:
        """Of the TSV in a data root, without its ending."""
        return self.file or self.dataset

    @property
    def decoding(self) -> str:
        """How answers are looked for."""
        return "greedy" if self.beams == 1 else f"{self.beams} beams"

    @property
    def vlmeval_name(self) -> str:
        """What VLMEvalKit is told, which scores by parts of the name: a table of one's own must not hit one of them."""
        return self.dataset if self.table is None else "Own"


def _mcq(
    dataset: str, title: str, label: str, group: str = "paper", *, cn: bool = False, circular: bool = False
) -> Benchmark:
    return Benchmark(
        dataset, title, label, group, "mcq", "ImageMCQDataset", language="cn" if cn else "en",
        judge="gpt-4o-mini", circular=circular,
        split=next((split.lower() for split in ("TEST", "DEV") if f"_{split}" in dataset), None),
        unit="circular group" if circular else "question",
    )  # fmt: skip


def _mme(dataset: str, title: str, label: str, group: str, *, full: bool) -> Benchmark:
    return Benchmark(
        dataset, title, label, group, "yesno", "ImageYORNDataset",
        scale=2800.0 if full else None, judge="gpt-4o-mini", unit="image pair", aggregate="subtask_sum",
        subtasks=MME_PERCEPTION + MME_COGNITION if full else (),
    )  # fmt: skip


def _labelled(which: QuestionSet, group: str, *, beams: int = 1, before: str = "", after: str = "") -> Benchmark:
    """A set by the authors' protocol: their evaluation's prompt, 32 tokens, the first label in the answer."""
    return Benchmark(
        f"{before}{which.name}{after}", which.title, which.label, group, "label", "",
        max_new_tokens=32, labels=which.labels, beams=beams, file=f"{before}{which.name}",
    )  # fmt: skip


_ALL = (
    _mcq("MMBench_TEST_EN", "MMBench English, test", "MMB-EN", circular=True),
    _mcq("MMBench_TEST_CN", "MMBench Chinese, test", "MMB-CN", cn=True, circular=True),
    _mcq("MMBench_DEV_EN", "MMBench English, dev", "MMB-EN-dev", "other", circular=True),
    _mcq("MMBench_DEV_CN", "MMBench Chinese, dev", "MMB-CN-dev", "other", cn=True, circular=True),
    _mcq("MMBench_TEST_EN_V11", "MMBench V1.1 English, test", "MMB-EN-V11", "other", circular=True),
    _mcq("MMBench_TEST_CN_V11", "MMBench V1.1 Chinese, test", "MMB-CN-V11", "other", cn=True, circular=True),
    _mcq("MMBench_DEV_EN_V11", "MMBench V1.1 English, dev", "MMB-EN-V11-dev", "other", circular=True),
    _mcq("MMBench_DEV_CN_V11", "MMBench V1.1 Chinese, dev", "MMB-CN-V11-dev", "other", cn=True, circular=True),
    _mcq("SEEDBench_IMG", "SEED-Bench, images", "SEED-img"),
    _mcq("AI2D_TEST", "AI2D, test", "AI2D"),
    _mcq("ScienceQA_TEST", "ScienceQA, test", "SciQA"),
    Benchmark("TextVQA_VAL", "TextVQA, validation", "TextVQA", "paper", "vqa", "ImageVQADataset",
              max_new_tokens=32),
    Benchmark("MathVista_MINI", "MathVista, testmini", "MathVista", "paper", "open", "MathVista",
              judge="gpt-4o-mini", needs_judge=True, max_new_tokens=512),
    Benchmark("MMVet", "MM-Vet", "MM-Vet", "paper", "open", "MMVet",
              judge="gpt-4-turbo", needs_judge=True, max_new_tokens=512),
    _mme("MME", "MME", "MME", "paper", full=True),
    _mcq("DigitsMMBench_EN", "Digits, multiple choice, English", "Digits-EN", "digits", circular=True),
    _mcq("DigitsMMBench_CN", "Digits, multiple choice, Chinese", "Digits-CN", "digits", cn=True,
         circular=True),
    _mme("DigitsMME", "Digits, yes or no", "Digits-MME", "digits", full=False),
    Benchmark("DigitsTextVQA", "Digits, open answers", "Digits-VQA", "digits", "vqa", "ImageVQADataset"),
    *(_labelled(which, "commonsense", beams=4) for which in SETS),
    *(_labelled(which, "commonsense-greedy", after="_greedy") for which in SETS),
    *(_labelled(which, "small-worlds", before=PREFIX) for which in SETS),
)  # fmt: skip

BENCHMARKS: dict[str, Benchmark] = {item.dataset: item for item in _ALL}
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(item.dataset for item in _ALL if item.group == group)
    for group in ("paper", "digits", "commonsense", "commonsense-greedy", "small-worlds")
}
STRICT = "paper-v1.0"
"""The nine as the paper has them, whatever can be scored today."""
STANDS_IN = {"MMBench_TEST_EN": "MMBench_TEST_EN_V11", "MMBench_TEST_CN": "MMBench_TEST_CN_V11"}
"""What is scored where v1.0's test set has no answers (`standing_in.py`)."""


def columns(group: str, scored: Container[str]) -> tuple[str, ...]:
    """The datasets of a group in a table: a test set that stands in has the place of that which nobody has scored."""
    return tuple(
        STANDS_IN[name] if name not in scored and STANDS_IN.get(name, "") in scored else name for name in GROUPS[group]
    )


def resolve(names: list[str], further: Callable[[str], Benchmark | None] = lambda _: None) -> list[Benchmark]:
    """Turn dataset names and group names (`paper`, `digits`) into benchmarks, each once, in order.

    Args:
        names: of datasets or groups, or words that `further` knows.
        further: finds a benchmark that is not in BENCHMARKS.

    Raises:
        UsageError: a name is neither.
    """
    found: dict[str, Benchmark] = {}
    for name in names:
        for dataset in GROUPS.get("paper" if name == STRICT else name, (name,)):
            benchmark = BENCHMARKS.get(dataset) or further(dataset)
            if benchmark is None:
                raise UsageError(
                    f"There is no benchmark or group named {name!r}. "
                    f"Groups: {', '.join([*GROUPS, STRICT])}. Benchmarks: {', '.join(BENCHMARKS)}. "
                    "All that VLMEvalKit knows: --benchmarks all. "
                    "A table of your own: FILE.tsv:choice, :yes-no, :short-answer or :open."
                )
            if found.setdefault(benchmark.dataset, benchmark) != benchmark:
                raise UsageError(f"Two tables are named {benchmark.dataset}: rename one.")
    if not found:
        raise UsageError(f"No benchmark was named. Name a group ({', '.join(GROUPS)}) or datasets.")
    return list(found.values())


def dev_of(benchmark: Benchmark) -> Benchmark | None:
    """The dev set of a test set of MMBench, or None."""
    if benchmark.table is not None or "_TEST_" not in benchmark.dataset:
        return None
    return BENCHMARKS.get(benchmark.dataset.replace("_TEST_", "_DEV_"))
