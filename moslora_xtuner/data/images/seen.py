"""What is known of image files from earlier looks, so that a check that was interrupted goes on where it was.

Decoding is what a check takes long for: an hour for the mix's images on few cores. A file is looked at again once its
size or time of change differ. The ledger is a cache: it can be deleted at any moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

import PIL

from ...paths import cache_folder
from ...progress import note
from ..problem_kinds import Kind

VERSION = 2
"""Of what a look finds; a new number forgets the old looks."""
KEPT_DAYS = 90
Row = tuple[str, int, int, str]


def ledger_file(root: Path) -> Path:
    """The ledger of one image folder."""
    facts = f"{VERSION} {PIL.__version__} {os.path.realpath(root)}"
    return cache_folder() / "images" / f"{hashlib.sha256(facts.encode()).hexdigest()[:16]}.sqlite"


class Ledger:
    """Looks up what is known, and collects what is learnt; one process writes for all.

    Whatever is wrong with the file (broken, locked, on a disk that cannot lock), the work goes on without it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.new: list[Row] = []
        self.base: sqlite3.Connection | None = None
        with suppress(sqlite3.Error):
            self.base = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)

    def known(self, name: str, found: os.stat_result) -> list[tuple[Kind, str]] | None:
        """What was found in this file, None if it was not looked at or has changed."""
        if self.base is None:
            return None
        try:
            row = self.base.execute("select size, mtime, findings from images where path = ?", (name,)).fetchone()
        except (sqlite3.Error, UnicodeError):
            self.base = None
            return None
        if row is None or row[:2] != (found.st_size, found.st_mtime_ns):
            return None
        try:
            return [(Kind(kind), str(detail)) for kind, detail in json.loads(row[2])]
        except ValueError:  # a kind that another version finds
            return None

    def learn(self, name: str, found: os.stat_result, findings: list[tuple[Kind, str]]) -> None:
        """Remember what was found, until `taken` hands it on."""
        self.new.append((name, found.st_size, found.st_mtime_ns, json.dumps(findings)))

    def taken(self) -> list[Row]:
        """What was learnt since the last call."""
        rows, self.new = self.new, []
        return rows


def _forget_old(folder: Path) -> None:
    """Remove ledgers that nothing was written to for long; an image folder that is used again is looked at again."""
    for other in folder.glob("*.sqlite"):
        with suppress(OSError):
            if time.time() - other.stat().st_mtime > KEPT_DAYS * 86_400:
                other.unlink()


class LedgerWriter:
    """The one process that writes."""

    def __init__(self, file: Path) -> None:
        self.base: sqlite3.Connection | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.base = self._open(file)
            os.utime(file)  # in use, though perhaps nothing new is learnt
            _forget_old(file.parent)
        except sqlite3.DatabaseError:
            with suppress(OSError, sqlite3.Error):  # a broken one is begun anew
                file.unlink()
                self.base = self._open(file)
        except OSError:
            pass
        if self.base is None:
            note(f"note: {file} cannot be written: if this is interrupted, all images are decoded again")

    @staticmethod
    def _open(file: Path) -> sqlite3.Connection:
        base = sqlite3.connect(file, timeout=30)
        base.execute("pragma synchronous = off")
        base.execute("create table if not exists images (path text primary key, size, mtime, findings) without rowid")
        base.execute("select count(*) from images where path = ''").fetchone()
        return base

    def add(self, rows: list[Row]) -> None:
        """Write what a process learnt."""
        if self.base is None or not rows:
            return
        try:
            with self.base:
                self.base.executemany("insert or replace into images values (?, ?, ?, ?)", rows)
        except sqlite3.Error:
            self.base = None

    def close(self) -> None:
        """End the writing."""
        if self.base is not None:
            self.base.close()
