"""The faults: each happens to a training once, at a random moment, and says what became of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file

from moslora_xtuner.training.artifacts import ADAPTERS, LLM
from moslora_xtuner.training.checkpoints.mark import MARK, checkpoints, state_of

from .processes import named, ranks
from .training import losses, nobody_left, weights
from .world import Outcome, World

Fault = Callable[[World], Outcome]
STALL = "custom_hooks.2.minutes=0.05"
"""How long a step may take before a run counts as one that hangs: three seconds here, ten minutes in the recipes."""
EACH = "default_hooks.checkpoint.interval=1"


def killed(who: str, processes: int = 2) -> Fault:
    """`kill -9` of the launcher, of torchrun or of a rank; in half of the tries every step is saved."""

    def happen(world: World) -> Outcome:
        folder = world.folder()
        world.whole(processes)
        options = (EACH,) if world.chance.random() < 0.5 else ()
        training = world.start(folder, options=options, processes=processes)
        training.until(lambda: losses(folder))
        time.sleep(world.chance.uniform(0, world.seconds(processes)))
        chosen = {
            "launcher": [training.process.pid],
            "torchrun": named(folder, b"torchrun"),
            "rank": ranks(folder) or named(folder, b"tools/train.py"),
        }[who]
        hit = training.process.poll() is None and bool(chosen)
        if hit:
            os.kill(world.chance.choice(chosen), signal.SIGKILL)
        training.end()
        seconds = nobody_left(folder)
        if seconds is None:
            return Outcome(False, said="processes were left")
        how = "every step saved" if options else "every third saved"
        return world.goes_on(
            folder, f"{how}, all gone after {seconds:.0f} s{'' if hit else '; it had ended'}", processes
        )

    return happen


def asked(number: int) -> Fault:
    """A signal that asks to stop, at any kind of step of the accumulation."""

    def happen(world: World) -> Outcome:
        folder = world.folder()
        training = world.start(folder)
        training.until(lambda: losses(folder))
        time.sleep(world.chance.uniform(0, 6))
        training.process.send_signal(number)
        status, said = training.end()
        if status not in (0, 128 + number):
            return Outcome(False, said=f"status {status}: {said.splitlines()[-1]}")
        return world.goes_on(folder, f"status {status}")

    return happen


def hangs(world: World) -> Outcome:
    """SIGSTOP of a rank."""
    folder = world.folder()
    training = world.start(folder, options=(STALL,))
    training.until(lambda: len(losses(folder)) >= 2)
    time.sleep(world.chance.uniform(0, 3))
    found = ranks(folder)
    if not found:
        return Outcome(False, said="it had ended before")
    os.kill(world.chance.choice(found), signal.SIGSTOP)
    begun = time.monotonic()
    status, said = training.end()
    seconds = time.monotonic() - begun
    if status != 7 or "a process hangs" not in said or nobody_left(folder) is None:
        return Outcome(False, said=f"status {status}: {said.splitlines()[-1]}")
    return world.goes_on(folder, f"ended after {seconds:.0f} s")


def second_launch(world: World) -> Outcome:
    """Another launch into the folder of one that runs."""
    folder = world.folder()
    training = world.start(folder)
    training.until(lambda: losses(folder))
    status, said = world.start(folder, *world.chance.choice([(), ("--overwrite",), ("--resume", "auto")])).end()
    first, _ = training.end()
    if status != 4 or first:
        return Outcome(False, said=f"the second ended with {status}, the first with {first}: {said.splitlines()[-1]}")
    return world.goes_on(folder)


def finished_again(world: World) -> Outcome:
    """A finished run started once more, in five ways, and killed while it is overwritten."""
    whole = world.whole()
    folder = world.folder()
    shutil.copytree(whole, folder)
    ways = [(), ("--resume", "auto"), ("--resume", "iter_3.pth"), ("--overwrite", "--deepspeed", "no-such-kind")]
    for words in ways:
        status, said = world.start(folder, *words).end()
        if not status or weights(folder) != weights(whole):
            return Outcome(False, said=f"{words} ended with {status}: {said.splitlines()[-1]}")
    training = world.start(folder, "--overwrite")
    training.until((folder / ".replaced").exists)
    training.process.kill()
    training.end()
    if nobody_left(folder) is None or weights(folder) != weights(whole):
        return Outcome(False, said="killed while it was overwritten, it is not what it was")
    return Outcome(True)


def damaged(how: str) -> Fault:
    """The newest of two checkpoints is cut, has a bit flipped, lacks a file, or is a mark without files."""

    def happen(world: World) -> Outcome:
        folder = world.interrupted()
        new = checkpoints(folder)[0]
        files = sorted(file for part in (new, state_of(new)) for file in part.iterdir())
        victim = world.chance.choice([file for file in files if file.name != MARK or how != "gone"])
        content = bytearray(victim.read_bytes())
        place = world.chance.randrange(len(content))
        if how == "cut":
            victim.write_bytes(content[:place])
        elif how == "flipped":
            content[place] ^= 1 << world.chance.randrange(8)
            victim.write_bytes(content)
        elif how == "gone":
            victim.unlink()
        else:
            shutil.rmtree(new)
        return world.goes_on(folder, victim.name)

    return happen


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of its own with so many bytes."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def disk_full(world: World) -> Outcome:
    """The disk has room for some checkpoints, and is full in the middle of a file; then room is made."""
    found = checkpoints(world.whole())[0]
    one = sum(f.stat().st_size for part in (found, state_of(found)) for f in part.iterdir())
    with small_disk(world.folder(), int(one * world.chance.uniform(0.5, 4)) + 300_000) as place:
        folder = place / "run"
        status, said = world.start(folder).end()
        if status not in (4, 7) or "No space left" not in said:
            return Outcome(False, said=f"status {status}: {said.splitlines()[-1]}")
        if nobody_left(folder) is None:
            return Outcome(False, said="processes were left")
        subprocess.run(["mount", "-o", "remount,size=1g", str(place)], check=True)
        if not checkpoints(folder):
            shutil.rmtree(folder)
            status, _ = world.start(folder).end()
            return Outcome(status == 0, said="before the first checkpoint")
        return world.goes_on(folder)


def folder_deleted(world: World) -> Outcome:
    """The run's folder is deleted under it: there is nothing left to go on from, but it must end, and say so."""
    folder = world.folder()
    training = world.start(folder)
    training.until(lambda: losses(folder))
    time.sleep(world.chance.uniform(0, 3))
    done = max(losses(folder), default=0)
    shutil.rmtree(folder, ignore_errors=True)
    status, said = training.end()
    if not status or nobody_left(folder) is None:
        return Outcome(False, said=f"status {status}: {said.splitlines()[-1]}")
    return Outcome(True, done, f"status {status}")


def read_only(world: World) -> Outcome:
    """The place cannot be written."""
    with small_disk(world.folder(), 2**20) as place:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        status, said = world.start(place / "run").end()
    last = said.splitlines()[-1]
    return Outcome(status == 4 and last.startswith("error: "), said=last if status != 4 else "")


def bad_gradient(world: World) -> Outcome:
    """From some step on a gradient is no number: nothing of it may reach a checkpoint."""
    folder, first = world.folder(), world.chance.randrange(4, 30)
    options = ("custom_hooks.0.type=bench.faults.injected.BadGradient", f"custom_hooks.0.iteration={first}")
    status, said = world.start(folder, options=options).end()
    if status != 7 or ("not finite" not in said and "the loss is" not in said):
        return Outcome(False, said=f"status {status}: {said.splitlines()[-1]}")
    return world.goes_on(folder, f"from iteration {first + 1} on")


def bad_pictures(world: World) -> Outcome:
    """1,000 steps of the optimiser with pictures that are no numbers, and a budget for them."""
    folder = world.folder()
    options = (
        "train_dataloader.dataset.type=bench.faults.injected.SomeBadPictures",
        "train_cfg.skip_bad_batches=1000", "train_cfg.max_epochs=167", "default_hooks.checkpoint.interval=500",
    )  # fmt: skip
    training = world.start(folder, options=options)
    status, said = training.end(3000)
    if status:
        return Outcome(False, said=f"status {status}: {said.splitlines()[-1]}")
    held = load_file(folder / ADAPTERS / LLM / "adapter_model.safetensors")
    skipped = (folder / "train.log").read_text().count("skipped, ")
    sound = all(bool(torch.isfinite(weight).all()) for weight in held.values())
    return Outcome(
        sound and skipped > 0, skipped, f"{skipped} batches were skipped in {max(losses(folder)) // 2} steps"
    )


KINDS: dict[str, tuple[str, Fault]] = {
    "kill-launcher": ("`kill -9` of the launcher, two processes", killed("launcher")),
    "kill-torchrun": ("`kill -9` of torchrun, two processes", killed("torchrun")),
    "kill-rank": ("`kill -9` of one of two processes", killed("rank")),
    "kill-single": ("`kill -9` of the only process", killed("rank", processes=1)),
    "sigterm": ("SIGTERM", asked(signal.SIGTERM)),
    "sigint": ("Ctrl-C", asked(signal.SIGINT)),
    "sighup": ("a closed terminal", asked(signal.SIGHUP)),
    "sigstop": ("one of two processes hangs", hangs),
    "second-launch": ("a second launch into the folder", second_launch),
    "finished-again": ("a finished run started again in five ways", finished_again),
    "cut": ("the newest checkpoint is cut", damaged("cut")),
    "flipped": ("a bit of it is flipped", damaged("flipped")),
    "gone": ("a file of it is gone", damaged("gone")),
    "mark-alone": ("its mark stands without it", damaged("mark")),
    "disk-full": ("the disk is full", disk_full),
    "read-only": ("the place is read-only", read_only),
    "deleted": ("the folder is deleted under the run", folder_deleted),
    "bad-gradient": ("a gradient that is no number", bad_gradient),
    "bad-pictures": ("1,000 steps with pictures that are no numbers", bad_pictures),
}
"""In words, and what happens."""
