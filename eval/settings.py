"""How models are asked and judged, apart from which and on what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import kit
from .judge import WORKERS, Judge, JudgeAddress
from .local_judge import LocalJudge
from .openai_client import RETRIES, TIMEOUT
from .precision import Precision
from .verdicts import AnyJudge


@dataclass(frozen=True)
class Settings:
    """How models are asked and judged; see `bridge.evaluate`."""

    judge: str = kit.EXACT
    judge_workers: int = WORKERS
    judge_retries: int = RETRIES
    judge_timeout: float = TIMEOUT
    batch_size: int = 64
    processes: int = 1
    limit: int | None = None
    precision: Precision | None = None
    download: bool = False
    quiet: bool = False

    @property
    def address(self) -> JudgeAddress | None:
        """Whom to ask for verdicts; None for exact matching. Raises UsageError for a malformed one."""
        return None if self.judge == kit.EXACT else JudgeAddress.read(self.judge)

    def judging(self, file: Path) -> AnyJudge | None:
        """The judge, with its verdicts in `file`; None for exact matching. Raises EvaluationError for a broken one."""
        address = self.address
        if address is None:
            return None
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
