"""Progress of long steps: a bar with rate and remaining time, or plain lines when not a terminal."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

LINE_SECONDS = 15.0
"""How often a plain line is printed."""

Tick = Callable[..., None]
"""Called as `tick(done, total, loss=None)`; `done` counts from the step's very start."""


def note(text: str, quiet: bool = False) -> None:
    """One line on standard error."""
    if not quiet:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@contextmanager
def bar(what: str, *, already: int = 0, quiet: bool = False) -> Iterator[Tick]:
    """Yield `tick`; shows a bar on a terminal, else a line every 15 seconds and one at the end.

    Args:
        what: the step's name.
        already: how much was there before, which does not count for the rate.
        quiet: show nothing.
    """
    pace = _Pace(already)
    if quiet:
        yield lambda done, total, loss=None: None
    elif sys.stderr.isatty():
        with _terminal_bar(what, pace) as tick:
            yield tick
    else:
        yield _lines(what, pace)


class _Pace:
    """How fast a step goes: items a second since it began."""

    def __init__(self, already: int) -> None:
        self.already = already
        self.start = time.monotonic()

    def rate(self, done: int) -> float:
        return (done - self.already) / max(time.monotonic() - self.start, 1e-9)


def _lines(what: str, pace: _Pace) -> Tick:
    shown = time.monotonic()

    def tick(done: int, total: int, loss: float | None = None) -> None:
        nonlocal shown
        now = time.monotonic()
        if done < total and now - shown < LINE_SECONDS:
            return
        shown = now
        rate = pace.rate(done)
        tail = "" if loss is None else f", loss {loss:.4f}"
        note(f"{what}: {done}/{total}, {rate:.1f}/s, {(total - done) / max(rate, 1e-9):.0f} s left{tail}")

    return tick


@contextmanager
def _terminal_bar(what: str, pace: _Pace) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: Any = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=None, completed=pace.already, note="")

        def tick(done: int, total: int, loss: float | None = None) -> None:
            text = f"{pace.rate(done):.1f}/s" + ("" if loss is None else f", loss {loss:.4f}")
            shown.update(task, completed=done, total=total, note=text)

        yield tick


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what packages log below an error, and what they print, away from a command's own output."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
