"""Plain lines on something that is no terminal."""

from __future__ import annotations

import re

import pytest

from moslora_xtuner import progress


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_a_line_every_15_seconds_and_one_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("drawing") as tick:
        for done in range(1, 41):
            clock.now += 1
            tick(done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert [re.findall(r"\d+/40", line)[0] for line in lines] == ["15/40", "30/40", "40/40"]
    assert lines[0] == "drawing: 15/40, 1.0/s, 25 s left"


def test_the_rate_counts_only_what_this_start_did(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("training", already=100) as tick:
        clock.now += 20
        tick(140, 200, 0.5)
    assert capsys.readouterr().err == "training: 140/200, 2.0/s, 30 s left, loss 0.5000\n"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("x", quiet=True) as tick:
        tick(1, 1)
    progress.note("x", quiet=True)
    assert capsys.readouterr().err == ""


def test_a_note_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress.note("exporting base")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "exporting base\n")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with progress.bar("training") as tick:
        tick(1, 2, 0.25)
        tick(2, 2, 0.125)
    shown = capsys.readouterr().err
    assert "training" in shown
    assert "2/2" in shown
    assert "loss 0.1250" in shown
