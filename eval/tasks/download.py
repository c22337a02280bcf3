"""The TSV of a benchmark, fetched only when asked for: going on where it stopped, and checked before it is there."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from moslora_xtuner.atomic import atomic_json
from moslora_xtuner.errors import DataError, OutputError
from moslora_xtuner.progress import Tick, bar

from .. import vlmeval_imports
from . import releases
from .checksums import Fetched, Table, check, hashes, record
from .registry import Benchmark

RETRIES = 6
"""How often in a row nothing new may come, with waits that double from one second to thirty."""
TIMEOUT = (20.0, 60.0)
"""Seconds to connect, and seconds without a single byte."""
_BLOCK = 1 << 16  # what a broken connection loses at most
_LATER = (408, 425, 429, 500, 502, 503, 504)


def source(benchmark: Benchmark, log: Path) -> tuple[str | None, str | None]:
    """The address and the md5 that VLMEvalKit registers for a benchmark's TSV; None where there is none."""
    owner = getattr(vlmeval_imports.import_datasets(log), benchmark.vlmeval_class)
    url, md5 = (getattr(owner, name, {}).get(benchmark.dataset) for name in ("DATASET_URL", "DATASET_MD5"))
    # Some classes register a list, an empty text, or a page about the file.
    whole = isinstance(url, str) and url.startswith(("http://", "https://")) and url.split("?")[0].endswith(".tsv")
    return url if whole else None, md5 or None


def obtain(benchmark: Benchmark, data_root: Path, log: Path, *, quiet: bool = False) -> Table:
    """A benchmark's TSV in the data root, downloaded where the file of exactly its name is missing.

    Raises DataError where VLMEvalKit registers no address, and what `fetch` raises.
    """
    path = data_root / f"{benchmark.dataset}.tsv"
    url, md5 = source(benchmark, log)
    if not path.is_file():
        if url is None:
            raise DataError(f"{path} does not exist, and VLMEvalKit registers no address of it: put it there yourself.")
        with bar(f"{path.name}, MiB", quiet=quiet) as tick:
            found = fetch(url, path, md5=md5, progress=lambda done, total: tick(done >> 20, total >> 20))
        record(data_root, benchmark.dataset, found, f"downloaded from {url}", md5)
    return check(data_root, benchmark.dataset, md5)


def fetch(
    url: str, target: Path, *, md5: str | None, progress: Tick | None = None, retries: int = RETRIES, pause: float = 1.0
) -> Fetched:
    """Download a file beside its place and put it there whole, going on where an earlier attempt stopped.

    Of several processes one downloads, and the others wait for it. A file that is there is hashed, not fetched.

    Args:
        md5: what the file must have; None: anything.
        progress: called with the bytes done and in all, where the server says how many.
        retries: further attempts after the last one that brought something new.
        pause: seconds before the first of them; each waits twice as long, up to 30 times that.

    Raises:
        DataError: it is not there, the server stays away, or it is another file than `md5` says.
        OutputError: it cannot be written.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _held(part) as handle:
            if target.is_file():  # another process has been faster
                _drop(part)
            else:
                try:
                    _Transfer(url, handle, part, progress).run(retries, pause)
                    return _put(url, handle, part, target, md5)
                finally:
                    if part.is_file() and not part.stat().st_size:
                        _drop(part)
        return hashes(target)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written ({error}). Make room there, or name another folder with --data-root, and run "
            "the same command again: what is downloaded is kept."
        ) from error


def _put(url: str, handle: IO[bytes], part: Path, target: Path, md5: str | None) -> Fetched:
    found = hashes(part)
    if md5 is not None and found.md5 != md5 and releases.known(target.stem, found.md5) is None:
        aside = target.with_name(f"{target.name}.{found.md5[:8]}")
        part.replace(aside)
        _drop(part)
        raise DataError(
            f"{url} has the md5 {found.md5}, but VLMEvalKit registers {md5}, and it is no other release that is known: "
            f"it is kept aside as {aside}. If the file has changed there and you trust it, rename it to {target.name}; "
            "else remove it and try once more."
        )
    os.fsync(handle.fileno())
    part.replace(target)
    _drop(part)
    return found


@contextmanager
def _held(part: Path) -> Iterator[IO[bytes]]:
    """The open part, for this process alone; the lock ends with the process, however that ends."""
    while True:
        with part.open("ab") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _same(handle, part):
                yield handle
                return


def _same(handle: IO[bytes], part: Path) -> bool:
    """Whether the open file still has its name: another process may have finished and renamed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _drop(part: Path) -> None:
    for path in (part, _notes(part)):
        path.unlink(missing_ok=True)


def _notes(part: Path) -> Path:
    """What is known of the file on the server that a part belongs to: its address, version and size."""
    return part.with_name(part.name + ".json")


class _Later(Exception):
    """This attempt ended early; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Transfer:
    """One file on its way into its part."""

    def __init__(self, url: str, handle: IO[bytes], part: Path, progress: Tick | None) -> None:
        self.url, self.handle, self.part, self.progress = url, handle, part, progress

    def run(self, retries: int, pause: float) -> None:
        from requests import RequestException

        most, fruitless = self.size(), 0
        while True:
            try:
                return self.attempt()
            except (RequestException, _Later) as fault:
                reason, wait = str(fault), getattr(fault, "wait", 0.0)
            fruitless = 0 if self.size() > most else fruitless + 1
            most = max(most, self.size())
            if fruitless > retries:
                raise DataError(
                    f"{self.url} cannot be downloaded ({reason}; {retries} retries). Look at the network and run the "
                    f"same command again: {self.size()} bytes are kept, and it goes on from there."
                )
            time.sleep(max(wait, pause * min(30, 2 ** max(0, fruitless - 1))))

    def size(self) -> int:
        return os.fstat(self.handle.fileno()).st_size

    def attempt(self) -> None:
        import requests

        # The bytes of the file itself: what a server compresses on the way has no length and no places.
        headers = {"Accept-Encoding": "identity"}
        notes = self.notes()
        if self.size() and notes["total"] == self.size():
            return
        if self.size() and notes["version"]:
            headers |= {"Range": f"bytes={self.size()}-", "If-Range": notes["version"]}
        with requests.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            self.judge(answer)
            if answer.status_code == 206:
                self.go_on(answer, notes)
            else:
                self.start(answer)
            total = self.notes()["total"]
            if total is not None and shutil.disk_usage(self.part.parent).free < total - self.size():
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {total - self.size()} bytes are needed")
            for block in answer.iter_content(_BLOCK):
                self.handle.write(block)
                self.handle.flush()
                if self.progress is not None and total:
                    self.progress(self.size(), total)
        if total is not None and self.size() != total:
            raise _Later(f"it ended after {self.size()} of {total} bytes")

    def judge(self, answer: Any) -> None:
        """Tell what will not get better by waiting from what may."""
        code = answer.status_code
        if code == 416:
            self.handle.truncate(0)
        if code in (*_LATER, 416):
            asked = answer.headers.get("Retry-After", "")
            raise _Later(f"it answered {code}", min(60.0, float(asked)) if asked.isdecimal() else 0.0)
        if code not in (200, 206):
            raise DataError(
                f"{self.url} cannot be downloaded: the server answered {code} ({answer.reason}). Where the file has "
                f"moved, put it at {self.part.with_suffix('')} yourself."
            )
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise DataError(f"{self.url} is a web page, no TSV: put the file at {self.part.with_suffix('')} yourself.")

    def start(self, answer: Any) -> None:
        """From the first byte on, whatever was there."""
        self.handle.truncate(0)
        plain = answer.headers.get("Content-Encoding", "identity") == "identity"
        length = answer.headers.get("Content-Length", "")
        total = int(length) if plain and length.isdecimal() else None
        atomic_json(
            _notes(self.part), {"url": self.url, "version": _version(answer) if plain else None, "total": total}
        )

    def go_on(self, answer: Any, notes: dict[str, Any]) -> None:
        """Only what continues the same version may follow: not every server heeds If-Range."""
        place = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
        if place != str(self.size()) or _version(answer) not in (None, notes["version"]):
            self.handle.truncate(0)
            raise _Later("the file changed there meanwhile")

    def notes(self) -> dict[str, Any]:
        try:
            found = json.loads(_notes(self.part).read_text(encoding="utf-8"))
            if found["url"] == self.url:
                return {"version": found["version"], "total": found["total"]}
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no notes: it starts anew
        return {"version": None, "total": None}


def _version(answer: Any) -> str | None:
    """What names this version of the file in If-Range: a strong ETag, else the date of its last change."""
    etag: str | None = answer.headers.get("ETag")
    changed: str | None = answer.headers.get("Last-Modified")
    return etag if etag and not etag.startswith("W/") else changed
