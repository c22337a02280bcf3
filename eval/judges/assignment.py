"""Who judges which benchmark: one judge for all, and others for some."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moslora_xtuner.errors import EvaluationError, UsageError

from ..tasks.registry import BENCHMARKS, EXACT, Benchmark
from .openai_judge import JudgeAddress


@dataclass(frozen=True)
class Judging:
    """The words of `--judge`, read: `rest` for every benchmark that `own` does not name.

    A word is exact_matching or what `JudgeAddress.read` takes; None stands for exact matching.
    """

    words: tuple[str, ...]
    rest: JudgeAddress | None
    own: dict[str, JudgeAddress | None]

    @classmethod
    def read(cls, words: Sequence[str]) -> Judging:
        """Read JUDGE (once at most) and BENCHMARK=JUDGE (once a benchmark).

        Args:
            words: what stands on a command line; without a word for all it is exact matching.

        Raises:
            UsageError: a judge is malformed, or something is said twice.
        """
        rest: list[JudgeAddress | None] = []
        own: dict[str, JudgeAddress | None] = {}
        for word in words:
            named = re.match(r"([\w.-]+)=", word)
            if named is None:
                rest.append(_read(word))
                continue
            dataset = named[1]
            if dataset in own:
                raise UsageError(f"--judge {word}: {dataset} has another judge already: give one a benchmark")
            own[dataset] = _read(word[named.end() :])
        if len(rest) > 1:
            raise UsageError(
                f"--judge is given {len(rest)} times for all benchmarks ({', '.join(words)}): give one for all, and "
                "BENCHMARK=NAME[@URL] for each that another one judges"
            )
        return cls(tuple(words), rest[0] if rest else None, own)

    def of(self, dataset: str) -> JudgeAddress | None:
        """Who judges a benchmark; None: exact matching."""
        return self.own.get(dataset, self.rest)

    def check(self, benchmarks: Sequence[Benchmark], find: Callable[[str], Benchmark | None] = BENCHMARKS.get) -> None:
        """Refuse before any work what VLMEvalKit would refuse after it, and a judge of a benchmark that nobody knows.

        Args:
            benchmarks: that are asked.
            find: a benchmark by its name, or None.

        Raises:
            UsageError: a judge is given to a benchmark that is neither asked nor known.
            EvaluationError: names every benchmark that has no score without a judge, and whom VLMEvalKit asks.
        """
        asked = {item.dataset for item in benchmarks}
        for dataset in self.own:
            if dataset not in asked and find(dataset) is None:
                raise UsageError(f"--judge {dataset}=...: there is no benchmark named {dataset}")
        lacking = [item for item in benchmarks if item.needs_judge and self.of(item.dataset) is None]
        if lacking:
            names = " and ".join(item.dataset for item in lacking)
            advice = " ".join(f"--judge {item.dataset}={item.judge}" for item in lacking)
            raise EvaluationError(
                f"no score under {EXACT}: {names}. Name a judge, for instance {advice}, or one for all (--judge "
                "NAME[@URL])"
            )

    def __str__(self) -> str:
        """As it stands in a manifest."""
        return ", ".join(self.words) or EXACT


def _read(word: str) -> JudgeAddress | None:
    return None if word == EXACT else JudgeAddress.read(word)
