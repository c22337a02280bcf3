"""How models are asked and judged, apart from which and on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .judges.assignment import Judging
from .judges.base import AnyJudge
from .judges.local_judge import LocalJudge
from .judges.openai_judge import WORKERS, Judge, JudgeAddress
from .models.precision import Precision
from .openai_client import RETRIES, TIMEOUT
from .tasks import catalogue
from .tasks.registry import EXACT, Benchmark


@dataclass(frozen=True)
class Settings:
    """How models are asked and judged; see `bridge.evaluate`."""

    judge: str | Sequence[str] = EXACT
    judge_workers: int = WORKERS
    judge_retries: int = RETRIES
    judge_timeout: float = TIMEOUT
    batch_size: int = 64
    processes: int = 1
    limit: int | None = None
    precision: Precision | None = None
    download: bool = False
    quiet: bool = False

    @cached_property
    def judging(self) -> Judging:
        """Who judges what. Raises UsageError for a malformed judge."""
        return Judging.read([self.judge] if isinstance(self.judge, str) else self.judge, catalogue.find)

    def judges(self, benchmarks: Sequence[Benchmark], file: Path) -> dict[JudgeAddress, AnyJudge]:
        """The judges of these benchmarks, with their verdicts in `file`. Raises EvaluationError for a broken one."""
        addresses = {self.judging.of(item.dataset) for item in benchmarks if item.judge is not None}
        return {address: self._judge(address, file) for address in addresses if address is not None}

    def _judge(self, address: JudgeAddress, file: Path) -> AnyJudge:
        if address.folder is not None:
            return LocalJudge(address.folder, file)
        return Judge(
            address.model,
            file,
            url=address.url,
            workers=self.judge_workers,
            retries=self.judge_retries,
            timeout=self.judge_timeout,
        )
