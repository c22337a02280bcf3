"""moslora_tables.json in a data root: which file each TSV was, where it came from, and whether it has changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_json, read_json
from moslora_xtuner.errors import DataError, OutputError

from . import releases

FILE_NAME = "moslora_tables.json"


@dataclass(frozen=True)
class Fetched:
    """What a file holds: both hashes in hex, and its size in bytes."""

    sha256: str
    md5: str
    bytes: int


@dataclass(frozen=True)
class Table:
    """One TSV of a data root.

    `official`: whether it is the file that VLMEvalKit registers (None: it registers none). `changed`: whether it is
    another file than the last time it was looked at here. `md5` and what VLMEvalKit registers; `release`: which
    other known release it is (releases.py).
    """

    sha256: str
    official: bool | None
    changed: bool
    md5: str | None = field(default=None, compare=False)
    registered: str | None = field(default=None, compare=False)
    release: str | None = field(default=None, compare=False)

    @property
    def known(self) -> bool:
        """Whether everybody has this file."""
        return self.official is True or self.release is not None


def hashes(path: Path) -> Fetched:
    """Both hashes of a file, read once."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            sha256.update(block)
            md5.update(block)
            size += len(block)
    return Fetched(sha256.hexdigest(), md5.hexdigest(), size)


def record(data_root: Path, dataset: str, found: Fetched, origin: str, registered: str | None = None) -> None:
    """Remember which file a dataset's TSV is. A data root that cannot be written to is fine: then nothing is kept.

    Args:
        found: the hashes of the file as it is now.
        origin: where it came from, for people.
        registered: the md5 that VLMEvalKit registers for it.
    """
    _remember(data_root, dataset, found, origin, registered, _stamp(_path(data_root, dataset)))


def check(data_root: Path, dataset: str, registered: str | None = None) -> Table:
    """Which file a dataset's TSV is now. Read only where its size or its time differ from the record's.

    A change is told once; the record keeps the hashes of the files that were there before.

    Args:
        registered: the md5 that VLMEvalKit registers for it.

    Raises:
        DataError: the TSV is missing or cannot be read.
    """
    path = _path(data_root, dataset)
    try:
        stamp = _stamp(path)
        known = _tables(data_root).get(dataset)
        if known is not None and (known["bytes"], known["mtime_ns"]) == stamp:
            return _table(dataset, known["sha256"], known["md5"], registered, changed=False)
        found = hashes(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error}): put the TSV of {dataset} there, or name another folder with --data-root."
        ) from error
    changed = known is not None and known["sha256"] != found.sha256
    origin = "found here" if known is None or changed else str(known["origin"])
    _remember(data_root, dataset, found, origin, registered, stamp)
    return _table(dataset, found.sha256, found.md5, registered, changed=changed)


def _table(dataset: str, sha256: str, md5: str, registered: str | None, *, changed: bool) -> Table:
    return Table(sha256, _official(md5, registered), changed, md5, registered, releases.known(dataset, md5))


def _path(data_root: Path, dataset: str) -> Path:
    return data_root / f"{dataset}.tsv"


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: while both stay, the content is taken to stay."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _official(md5: str, registered: str | None) -> bool | None:
    return None if registered is None else md5 == registered


def _remember(
    data_root: Path, dataset: str, found: Fetched, origin: str, registered: str | None, stamp: tuple[int, int]
) -> None:
    try:
        with _alone(data_root):
            tables = _tables(data_root)
            before = tables.get(dataset)
            earlier: list[str] = [] if before is None else list(before["earlier"])
            if before is not None and before["sha256"] != found.sha256:
                earlier.append(before["sha256"])
            tables[dataset] = {
                "sha256": found.sha256,
                "md5": found.md5,
                "bytes": stamp[0],
                "mtime_ns": stamp[1],
                "origin": origin,
                "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "is_vlmevalkits": _official(found.md5, registered),
                "earlier": earlier,
            }
            atomic_json(data_root / FILE_NAME, tables)
    except (OSError, OutputError):
        pass  # a help, no obstacle


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing this folder's record meanwhile: two would lose what one of them wrote."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _tables(data_root: Path) -> dict[str, dict[str, Any]]:
    """The sound entries of the record; one that another program has spoilt counts as none."""
    need = {"sha256": str, "md5": str, "bytes": int, "mtime_ns": int, "origin": str, "earlier": list}
    try:
        content = read_json(data_root / FILE_NAME)
        return {
            str(name): entry
            for name, entry in content.items()
            if all(isinstance(entry.get(field), kind) for field, kind in need.items())
        }
    except (OSError, ValueError, AttributeError):
        return {}
