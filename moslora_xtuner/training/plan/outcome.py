"""What a plan found: its numbered steps, and how they are printed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any, TypeVar

from ...errors import ConfigError, MoSLoRAError
from .checkpoints import Store
from .memory import Memory
from .setting import Setting
from .shapes import Part

Found = TypeVar("Found")


@dataclass
class Step:
    """One numbered check: what was found, and what is wrong."""

    title: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def says(self, fact: str) -> None:
        """Note what was found."""
        self.facts.append(fact)

    def wrong(self, problem: object) -> None:
        """Note what is wrong, in one line."""
        self.problems.append(" ".join(str(problem).split()))

    def attempt(self, look: Callable[[], Found]) -> Found | None:
        """What `look` finds; None when it raises, which is a problem of this step."""
        try:
            return look()
        except (MoSLoRAError, ValueError, TypeError, OSError) as fault:
            self.wrong(fault)
        except (KeyError, AttributeError) as fault:
            self.wrong(f"the config is not in the form of the recipes here ({fault!r}): see `moslora config NAME`")
        return None


@dataclass
class Plan:
    """A run, looked at before it costs anything."""

    setting: Setting
    steps: list[Step] = field(default_factory=list)
    llm: Part | None = None
    visual: Part | None = None
    tokenizer: Any = None
    projector: int = 0
    positions: int | None = None
    vocabulary: int | None = None
    store: Store | None = None
    validation: Store | None = None
    memory: Memory | None = None
    checkpointed_blocks: int | None = None

    @property
    def problems(self) -> list[str]:
        """All problems in order."""
        return [problem for step in self.steps for problem in step.problems]


def require_ready(plan: Plan) -> None:
    """Stop when anything is wrong.

    Raises:
        ConfigError: counts the problems, which the plan's text names.
    """
    if count := len(plan.problems):
        raise ConfigError(f"{count} problem{'s' * (count > 1)}, named above: nothing was started")


def text(plan: Plan, width: int = 120) -> str:
    """The plan as numbered lines."""
    setting = plan.setting
    lines = [f"plan of {setting.name}, run folder {setting.work_dir}"]
    for number, step in enumerate(plan.steps, 1):
        said = [*step.facts, *(f"WRONG: {problem}" for problem in step.problems)]
        start = f"{number:>3} {'WRONG' if step.problems else 'ok':<6}{step.title:<20}"
        for one in said or [""]:
            wrapped = wrap(one, max(60, width) - len(start), break_long_words=False, break_on_hyphens=False)
            lines += [(start if n == 0 else " " * len(start)) + piece for n, piece in enumerate(wrapped or [""])]
            start = " " * len(start)
    return "\n".join(line.rstrip() for line in lines)
