"""What all faults happen to: a base, data, and a run of each kind that nothing happened to."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moslora_xtuner.data.digits.write import write_digits
from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.digits_base import digits_base
from moslora_xtuner.training.artifacts import ADAPTERS, MANIFEST
from moslora_xtuner.training.checkpoints.mark import checkpoints, newest, state_of, step_of

from .training import Training, losses, weights

SCRIPTS = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """What became of one try.

    Attributes:
        survived: it ended as it should, nobody was left, and going on gave the losses and weights of a whole run.
        lost: iterations that were done again.
        said: what else happened, or what went wrong.
    """

    survived: bool
    lost: int = 0
    said: str = ""


class World:
    """A folder with everything; made once and used again.

    Args:
        work: the folder.
        seed: of all that is random.
    """

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.chance = work, random.Random(seed)
        self.data = work / "data"
        if not (self.data / "store" / "store.json").is_file():
            write_digits(self.data, seed=0, scenes=48, test_questions=16)
            prepare(self.data / "train.json", self.data / "images", digits_base() / "llm", self.data / "store")
        self.environment = {
            "DIGITS_DATA": str(self.data),
            "DIGITS_BASE": str(digits_base()),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(SCRIPTS), os.environ.get("PYTHONPATH", "")])),
        }
        self.tries = 0

    def folder(self) -> Path:
        """A new run's folder."""
        self.tries += 1
        found = self.work / f"run-{os.getpid()}-{self.tries}"
        shutil.rmtree(found, ignore_errors=True)
        return found

    def start(self, folder: Path, *words: str, options: Sequence[str] = (), processes: int = 2) -> Training:
        """A training that begins."""
        return Training(folder, self.environment, *words, options=options, processes=processes)

    def whole(self, processes: int = 2) -> Path:
        """A run that nothing happened to."""
        return self._whole_one if processes == 1 else self._whole_two

    def seconds(self, processes: int = 2) -> float:
        """How long the steps of such a run take."""
        said = json.loads((self.whole(processes) / ADAPTERS / MANIFEST).read_text(encoding="utf-8"))
        return float(said["seconds"])

    @cached_property
    def _whole_two(self) -> Path:
        return self._undisturbed(2)

    @cached_property
    def _whole_one(self) -> Path:
        return self._undisturbed(1)

    def _undisturbed(self, processes: int) -> Path:
        found = self.work / f"whole-{processes}"
        if not (found / ADAPTERS / MANIFEST).is_file():
            shutil.rmtree(found, ignore_errors=True)
            options = ("default_hooks.checkpoint.max_keep_ckpts=-1",)
            status, said = self.start(found, options=options, processes=processes).end()
            assert status == 0, said
        return found

    def interrupted(self) -> Path:
        """A copy of the whole run as it stood after some checkpoint, two of which are kept."""
        copy = self.folder()
        shutil.copytree(self.whole(), copy)
        shutil.rmtree(copy / ADAPTERS)
        found = checkpoints(copy)
        first = self.chance.randrange(1, len(found) - 1)
        for path in (*found[:first], *found[first + 2 :]):
            shutil.rmtree(state_of(path))
            shutil.rmtree(path)
        return copy

    def goes_on(self, folder: Path, said: str = "", processes: int = 2) -> Outcome:
        """Resume what was disturbed, and hold it against the whole run."""
        done = max(losses(folder), default=0)
        if not (folder / ADAPTERS / MANIFEST).is_file():
            found = newest(folder).path
            kept = (step_of(found) or 0) if found else 0
            status, told = self.start(folder, "--resume", "auto", processes=processes).end()
            if status:
                return Outcome(False, said=f"{said}; resumed, it ended with {status}: {told.splitlines()[-1]}")
        else:
            kept = done
        whole = self.whole(processes)
        if losses(folder) != losses(whole) or weights(folder) != weights(whole):
            return Outcome(False, done - kept, f"{said}; losses or weights differ from those of a whole run")
        return Outcome(True, done - kept, said)
