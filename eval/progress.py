"""Progress of long steps: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_SECONDS = 15.0


class Progress:
    """Shows notes and bars on standard error; nothing at all when `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def note(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            sys.stderr.write(f"{text}\n")

    @contextmanager
    def bar(self, title: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
        """A bar of `total` questions of which `done` are there; yields the function that advances it."""
        if self.quiet:
            yield lambda count: None
        elif sys.stderr.isatty():
            with self._terminal(title, total, done) as advance:
                yield advance
        else:
            yield self._lines(title, total, done)

    @contextmanager
    def _terminal(self, title: str, total: int, done: int) -> Iterator[Callable[[int], None]]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
            TimeRemainingColumn(),
        )
        begun, new = time.perf_counter(), 0
        with RichProgress(*columns, console=Console(stderr=True)) as shown:
            task = shown.add_task(title, total=total, completed=done, rate=0.0)

            def advance(count: int) -> None:
                nonlocal new
                new += count
                shown.update(task, advance=count, rate=new / max(1e-9, time.perf_counter() - begun))

            yield advance

    def _lines(self, title: str, total: int, done: int) -> Callable[[int], None]:
        begun = last = time.perf_counter()
        new = 0

        def advance(count: int) -> None:
            nonlocal last, new
            new += count
            now = time.perf_counter()
            if now - last < LINE_EVERY_SECONDS and done + new < total:
                return
            last = now
            rate = new / max(1e-9, now - begun)
            left = (total - done - new) / max(1e-9, rate)
            sys.stderr.write(f"{title}: {done + new}/{total} questions, {rate:.1f}/s, {left:.0f} s left\n")

        return advance
