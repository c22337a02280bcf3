"""What a plan found: its numbered steps, and how they are printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import wrap

from ...errors import ConfigError
from .checkpoints import Store
from .memory import Memory
from .setting import Setting
from .shapes import Part


@dataclass
class Step:
    """One numbered check: what was found, and what is wrong."""

    title: str
    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Plan:
    """A run, looked at before it costs anything."""

    setting: Setting
    steps: list[Step] = field(default_factory=list)
    llm: Part | None = None
    visual: Part | None = None
    projector: int = 0
    store: Store | None = None
    memory: Memory | None = None

    @property
    def problems(self) -> list[str]:
        """All problems in order."""
        return [problem for step in self.steps for problem in step.problems]


def require_ready(plan: Plan) -> None:
    """Stop when anything is wrong.

    Raises:
        ConfigError: counts the problems, which the plan's text names.
    """
    if plan.problems:
        raise ConfigError(f"{len(plan.problems)} problems, named above: nothing was started")


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
