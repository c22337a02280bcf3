"""The whole way on DigitsVQA: data, LoRA and MoSLoRA, export, evaluation, report."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .atomic import atomic_json
from .data.digits import SCENES, TEST_QUESTIONS
from .digits_base import digits_base
from .output import MARKER, claim, need_space
from .progress import bar, note

GIGABYTES = 1.0
"""What a whole run needs on disk, with room to spare."""
ADAPTERS = {"LoRA": "digits_lora", "MoSLoRA": "digits_moslora"}
"""Name in the report to config: trained with the same data, seed and settings, one after the other."""
BASE_NAME = "base"


@dataclass(frozen=True)
class Size:
    """How much is made, trained and asked."""

    scenes: int
    test_questions: int


FULL = Size(SCENES, TEST_QUESTIONS)
FAST = Size(scenes=320, test_questions=48)
"""Shows that every step works; the scores mean nothing."""


def make_data(out: Path, seed: int, scenes: int, test_questions: int) -> None:
    """Write DigitsVQA and the token store of its training set, made for the base model that ships."""
    from .data.digits.write import write_digits
    from .data.prepare import prepare

    with bar("drawing scenes") as tick:
        write_digits(out, seed, scenes, test_questions, progress=tick)
    with bar("tokenising") as tick:
        prepare(
            out / "train.json",
            out / "images",
            digits_base() / "llm",
            out / "store",
            progress=tick,
        )


def run(out: Path, seed: int = 0, fast: bool = False, processes: int | None = None) -> Path:
    """Run every step that is not done yet in `out`, print the score table, and return the report's path.

    Layout: `data/`, `train/NAME/`, `models/NAME/`, `eval/NAME/`, `report/report.html`, `times.json`. A step that
    was interrupted starts again; those that were finished are kept.

    Args:
        out: the output folder.
        seed: of the training data and the training. The test sets are always the same.
        fast: a reduced set, to see that everything works.
        processes: training processes; one a GPU by default, two without one.

    Raises:
        MoSLoRAError: a step failed; the message says which, where and what to do.
    """
    from .eval.evaluator import evaluate
    from .eval.report.page import table, write_report
    from .export.merge import export
    from .training import launch
    from .training.artifacts import ADAPTERS as ADAPTER_FOLDER
    from .training.artifacts import MANIFEST
    from .training.processes import default_processes

    base = digits_base()
    need_space(out, GIGABYTES)
    size = FAST if fast else FULL
    processes = processes or default_processes()
    claim(out, "quickstart", {"seed": seed, "fast": fast, "processes": processes})
    clock = _Clock(out / "times.json")
    data, models = out / "data", {name: out / "models" / name.lower() for name in (BASE_NAME, *ADAPTERS)}

    def train(name: str, config: str) -> None:
        with bar(f"training {name}") as tick:
            launch.train(
                config,
                processes=processes,
                work_dir=out / "train" / name.lower(),
                cfg_options=[f"randomness.seed={seed}"],
                environment={"DIGITS_DATA": str(data.resolve()), "DIGITS_BASE": str(base)},
                progress=tick,
            )

    if not (data / "store" / MARKER).is_file():
        clock.measure("data", lambda: make_data(data, seed, size.scenes, size.test_questions))
    for name, config in ADAPTERS.items():
        if not (out / "train" / name.lower() / ADAPTER_FOLDER / MANIFEST).is_file():
            clock.measure(f"training {name}", lambda name=name, config=config: train(name, config))  # type: ignore[misc]
    for name, folder in models.items():
        source = base if name == BASE_NAME else out / "train" / name.lower()
        if not (folder / MARKER).is_file():
            note(f"exporting {name}")
            clock.measure(f"export of {name}", lambda s=source, f=folder, n=name: export(s, f, name=n))  # type: ignore[misc]
    tables = ["digits"]
    runs: list[Path] = []
    clock.measure(
        "evaluation",
        lambda: runs.extend(evaluate(list(models.values()), tables, data / "LMUData", out / "eval")),
    )
    curves = {name: _loss_curve(out / "train" / name.lower()) for name in ADAPTERS}
    page = write_report(
        runs,
        out / "report",
        baseline="LoRA",
        training=curves,
        command=f"moslora quickstart -o {out} --seed {seed}{' --fast' if fast else ''}",
        times=clock.seconds,
        title="DigitsVQA: LoRA and MoSLoRA",
    )
    sys.stdout.write(f"{table(runs, 'terminal').rstrip()}\nreport: {page}\n")
    return page


def _loss_curve(folder: Path) -> Path:
    """The newest log of scalars that mmengine left in a run's folder."""
    return max(folder.glob("*/vis_data/scalars.json"))


class _Clock:
    """Seconds of each step, kept in a file across interruptions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def measure(self, step: str, work: Callable[[], object]) -> None:
        start = time.monotonic()
        work()
        self.seconds[step] = round(time.monotonic() - start, 1)
        atomic_json(self.path, self.seconds, indent=2)
