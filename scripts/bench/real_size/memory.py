"""What a command and all that it starts hold in memory, sampled from outside while it runs."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PAUSE = 0.2


@dataclass(frozen=True)
class Sample:
    """Bytes at a moment: own (anonymous) memory and pages of mapped files."""

    at: float
    own: int
    mapped: int

    @property
    def both(self) -> int:
        """Resident set size."""
        return self.own + self.mapped


@dataclass(frozen=True)
class Watched:
    """A command that has ended: its status, its begin and end, what each process held, by its id, and what all did.

    Of mapped pages the tree has those of the process with the most: the others map the same libraries.
    """

    status: int
    began: float
    ended: float
    samples: dict[int, list[Sample]]
    tree: list[Sample]


def watch(command: list[str], environment: dict[str, str], log: Path) -> Watched:
    """Run a command to its end, its output kept in a file."""
    began = time.time()
    samples: dict[int, list[Sample]] = {}
    tree: list[Sample] = []
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None:
            now = _family(process.pid)
            for pid, sample in now.items():
                samples.setdefault(pid, []).append(sample)
            if now:
                held = now.values()
                tree.append(Sample(time.time(), sum(s.own for s in held), max(s.mapped for s in held)))
            time.sleep(PAUSE)
    return Watched(process.returncode, began, time.time(), samples, tree)


def _family(pid: int) -> dict[int, Sample]:
    try:
        parent = psutil.Process(pid)
        members = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return {}
    return {member.pid: found for member in members if (found := _sample(member.pid)) is not None}


def _sample(pid: int) -> Sample | None:
    """From `status`: `smaps_rollup` would walk all pages and hold up the training."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:  # it has just ended
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if line.startswith("Rss")}
    if "RssAnon" not in kib:  # ended, and not waited for yet
        return None
    return Sample(time.time(), 1024 * kib["RssAnon"], 1024 * (kib["RssFile"] + kib["RssShmem"]))
