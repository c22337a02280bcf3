"""How models are asked and judged, apart from which and on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moslora_xtuner.errors import UsageError

from .judges.assignment import Judging
from .judges.base import AnyJudge, VerdictLog
from .judges.local_judge import LocalJudge
from .judges.openai_judge import WORKERS, Judge, JudgeAddress
from .models.precision import Precision
from .openai_client import RETRIES, TIMEOUT
from .tasks.registry import EXACT, Benchmark


@dataclass(frozen=True)
class Settings:
    """How models are asked and judged.

    Attributes:
        judge: a word of `--judge`, or several: who reads free answers.
        judge_workers: requests that a served judge gets at a time.
        judge_retries: how often a failed request is repeated.
        judge_timeout: seconds that one verdict may take.
        batch_size: questions answered at a time in each process.
        processes: that answer.
        instruct: whether LLaVA-1.5's request for a letter or a word is added to the questions of one's own tables.
        limit: only that many units (circular groups, image pairs, questions) of each benchmark.
        skip_bad: so many rows with faults may be left out of each table; 0: none is.
        kit_fixes: whether known defects of VLMEvalKit are corrected (`scoring/kit_fixes.py`).
        kit: whether lm-evaluation-harness is asked, too, for its own tasks of the sets of commonsense (`harness.py`).
        kit_tasks: a folder of its task files, which take the place of its own tasks of the same names.
        precision: of the weights; bf16 on a GPU and fp32 on a CPU by default.
        download: whether models and tables that are not here are fetched.
        quiet: no progress.

    Raises:
        UsageError: a number is below 1.
    """

    judge: str | Sequence[str] = EXACT
    judge_workers: int = WORKERS
    judge_retries: int = RETRIES
    judge_timeout: float = TIMEOUT
    batch_size: int = 64
    processes: int = 1
    instruct: bool = False
    limit: int | None = None
    skip_bad: int = 0
    kit_fixes: bool = False
    kit: bool = False
    kit_tasks: Path | None = None
    precision: Precision | None = None
    download: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        for name in ("judge_workers", "batch_size", "processes", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, is {value}.")
        if self.skip_bad < 0:
            raise UsageError(f"skip_bad must be at least 0, is {self.skip_bad}.")

    @cached_property
    def judging(self) -> Judging:
        """Who judges what. Raises UsageError for a malformed judge."""
        return Judging.read([self.judge] if isinstance(self.judge, str) else self.judge)

    def judges(self, benchmarks: Sequence[Benchmark], file: Path) -> dict[JudgeAddress, AnyJudge]:
        """The judges of these benchmarks, with their replies in `file`.

        Raises EvaluationError for a broken one, OutputError for a file that is not ours.
        """
        addresses = {self.judging.of(item.dataset) for item in benchmarks if item.judge is not None} - {None}
        if not addresses:
            return {}
        log = VerdictLog(file)  # one for all: two names may be one judge
        return {address: self._judge(address, log) for address in addresses if address is not None}

    def _judge(self, address: JudgeAddress, log: VerdictLog) -> AnyJudge:
        if address.folder is not None:
            return LocalJudge(address.folder, log)
        return Judge(
            address.model,
            log,
            url=address.url,
            workers=self.judge_workers,
            retries=self.judge_retries,
            timeout=self.judge_timeout,
        )


DEFAULT = Settings()
