"""Output folders: whose they are, and how one comes to stand whole or not at all.

A folder of ours holds `.moslora.json`. Nothing without it is ever written into or deleted, and what is
written stands beside its final name until it is complete and on the disk, then is renamed.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import __version__
from .atomic import FULL, PARTIAL, as_os_error, atomic_write, bring_to_disk, explain, parse_json, remove, unfinished
from .errors import OutputError

MARKER = ".moslora.json"
NO_ROOM_GB = 2e-4
"""Less is no room for a table."""


def claim(folder: Path, kind: str, settings: Mapping[str, Any] | None = None) -> bool:
    """Take an output folder: make it and mark it as ours, or find it ours already.

    `kind` says what the folder holds ("quickstart", "eval", ...), `settings` what it is made with (JSON
    values). Returns True when the folder was ours before, so that the caller can go on where it stopped.
    Raises OutputError when the folder holds something else, or was begun as another kind or with other
    settings, or cannot be written. Deletes nothing.
    """
    folder = Path(folder)
    wanted = _plain(settings)
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file, not a folder: choose another output folder")
        found = marker(folder)
        if found is not None:
            _same_work(folder, found, kind, wanted)
            _probe(folder)
            return True
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError(
                f"{folder} exists, is not empty and was not made by moslora: "
                "choose another output folder or move its contents away"
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise explain(folder, fault) from fault
    atomic_write(folder / MARKER, _mark(kind, wanted))
    return False


def mark(folder: Path, kind: str) -> None:
    """Mark a folder as ours that was written before there were marks. Raises OutputError."""
    atomic_write(Path(folder) / MARKER, _mark(kind, {}))


def marker(folder: Path) -> dict[str, Any] | None:
    """The marker of a folder of ours (kind, version, settings), None when it has none.

    Raises OutputError when the marker is there but cannot be read.
    """
    path = Path(folder) / MARKER
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as fault:
        raise explain(path, fault) from fault
    try:
        found = parse_json(text)
    except ValueError as fault:
        raise OutputError(f"{path} is not JSON ({fault}): choose another output folder") from fault
    if not isinstance(found, dict) or "kind" not in found:
        raise OutputError(f"{path} was not written by moslora: choose another output folder")
    return found


@contextmanager
def atomic_folder(path: Path, kind: str = "folder") -> Iterator[Path]:
    """Yield an empty folder to fill; it takes the name `path` when the block ends without an exception.

    The marker of `kind` is added and the files are fsynced before the rename. A folder of that name is
    replaced when it is empty or holds the marker; anything else raises OutputError before the block is
    entered. When the block raises, what it wrote is removed and `path` is as before.
    """
    path = Path(path)
    _replaceable(path)
    beside = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
    except OSError as fault:
        raise explain(path, fault) from fault
    try:
        try:
            yield beside
        except OSError as fault:
            if fault.errno in FULL:  # other faults may be about what the block reads
                raise explain(path, fault) from fault
            raise
        except Exception as fault:
            if (said := as_os_error(fault)) is not None and said.errno in FULL:  # safetensors has its own type
                raise explain(path, said) from fault
            raise
        try:
            _mark_once(beside, kind)
            bring_to_disk(beside, whole=True)
            _swap(beside, path)
        except OSError as fault:
            raise explain(path, fault) from fault
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Turn whatever a library says when the disk of `folder` is full into OutputError; other faults go through.

    Also where it has not said so: a file that was cut short is found out by whoever reads it.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as fault:
        seen: BaseException | None = fault
        while seen is not None:
            said = seen if isinstance(seen, OSError) else next((x for x in seen.args if isinstance(x, OSError)), None)
            if said is not None and said.errno in FULL:
                _let_go(fault)
                raise explain(folder, said) from fault
            seen = seen.__cause__ or seen.__context__
        if free_gb(folder) < NO_ROOM_GB:
            _let_go(fault)
            raise explain(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from fault
        raise


def _let_go(fault: BaseException) -> None:
    """End the files that a fault keeps open, in silence: each would say once more that the disk is full."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        seen: BaseException | None = fault
        while seen is not None:
            traceback.clear_frames(seen.__traceback__)
            seen = seen.__cause__ or seen.__context__
        gc.collect()
    finally:
        sys.unraisablehook = hook


def remove_partial(folder: Path) -> list[Path]:
    """Remove what writes that were killed left in a folder of ours; returns what was removed.

    Raises OutputError when the folder is not ours.
    """
    if marker(folder) is None:
        raise OutputError(f"{folder} was not made by moslora: nothing in it is removed")
    left = sorted(p for p in Path(folder).iterdir() if p.name.startswith(".") and PARTIAL in p.name)
    for path in left:
        remove(path)
    return left


def free_gb(folder: Path) -> float:
    """Gigabytes (1e9 bytes) free for this user on the disk that holds `folder`, which may not exist yet."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free / 1e9


def need_space(folder: Path, gigabytes: float) -> None:
    """Raise OutputError unless the disk that holds `folder` has that much free."""
    free = free_gb(folder)
    if free < gigabytes:
        raise OutputError(
            f"{free:.1f} GB free for {folder}, {gigabytes:.1f} GB needed: make room or choose another disk"
        )


def _mark(kind: str, settings: dict[str, Any]) -> str:
    mark = {"kind": kind, "version": __version__, "settings": settings}
    return json.dumps(mark, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _mark_once(folder: Path, kind: str) -> None:
    """Mark a finished folder as ours unless the block that filled it did."""
    if not (folder / MARKER).exists():
        (folder / MARKER).write_text(_mark(kind, {}), encoding="utf-8")


def _plain(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings as JSON gives them back, so that tuples and paths compare equal on a second start."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings or {}), default=str))
    return plain


def _same_work(folder: Path, found: dict[str, Any], kind: str, wanted: dict[str, Any]) -> None:
    if found["kind"] != kind:
        raise OutputError(f"{folder} holds {found['kind']!r}, not {kind!r}: choose another output folder or remove it")
    before = found.get("settings", {})
    names = sorted(n for n in {*before, *wanted} if before.get(n) != wanted.get(n))
    if names:
        changed = ", ".join(f"{n} was {before.get(n)!r}, is {wanted.get(n)!r}" for n in names)
        raise OutputError(
            f"{folder} was begun with other settings ({changed}): repeat them to go on, or choose another output folder"
        )


def _probe(folder: Path) -> None:
    probe = unfinished(folder / "probe")
    probe.touch()
    probe.unlink()


def _replaceable(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_dir():
        raise OutputError(f"{path} exists and is not a folder: choose another output folder")
    if marker(path) is None and any(path.iterdir()):
        raise OutputError(
            f"{path} exists, is not empty and was not made by moslora: "
            "choose another output folder or move its contents away"
        )


def _swap(beside: Path, path: Path) -> None:
    """Rename a finished folder to its name; an old one steps aside first and comes back on failure."""
    old = unfinished(path) if path.exists() else None
    if old is not None:
        os.rename(path, old)
    try:
        os.rename(beside, path)
    except OSError:
        if old is not None:
            os.rename(old, path)
        raise
    bring_to_disk(path.parent)
    if old is not None:
        shutil.rmtree(old)
