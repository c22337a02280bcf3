"""Progress of long steps: a bar with rate and remaining time, or plain lines when not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_SECONDS = 10.0
"""How often a plain line is printed."""

Tick = Callable[..., None]


@contextmanager
def bar(what: str) -> Iterator[Tick]:
    """Yield `tick(done, total, loss=None)`; shows a rich bar on a terminal, else a line every ten seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _rich_bar(console, what) as tick:
            yield tick
        return
    start = time.monotonic()
    shown = start

    def tick(done: int, total: int, loss: float | None = None) -> None:
        nonlocal shown
        now = time.monotonic()
        if done < total and now - shown < LINE_SECONDS:
            return
        shown = now
        left = (now - start) / max(done, 1) * (total - done)
        tail = "" if loss is None else f", loss {loss:.4f}"
        console.print(f"{what}: {done}/{total}, {left:.0f} s left{tail}", highlight=False)

    yield tick


@contextmanager
def _rich_bar(console: object, what: str) -> Iterator[Tick]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=False) as progress:  # type: ignore[arg-type]
        task = progress.add_task(what, total=None, note="")

        def tick(done: int, total: int, loss: float | None = None) -> None:
            note = "" if loss is None else f"loss {loss:.4f}"
            progress.update(task, completed=done, total=total, note=note)

        yield tick
