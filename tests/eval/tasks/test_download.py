"""Downloads from a server on this machine that breaks off, changes its file, ignores ranges or stays away."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moslora_xtuner.errors import DataError, OutputError
from moslora_xtuner.eval import vlmeval_imports
from moslora_xtuner.eval.tasks import download
from moslora_xtuner.eval.tasks.download import Fetched, fetch, obtain, source
from moslora_xtuner.eval.tasks.registry import BENCHMARKS

FILE = bytes(range(256)) * 4000  # about a megabyte, no two neighbours alike
OTHER = FILE[::-1]


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` under any path; each request takes the next of the scripted faults."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.modified = FILE, '"one"', ""
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.sent = 0
        self.ignores_range = self.ignores_if_range = False
        self.gives_length = True
        self.slow = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/MMStar.tsv"

    def handle_error(self, *_: Any) -> None:
        """A client that has hung up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.ranges.append(asked)
        fault = server.script.pop(0) if server.script else ""
        if fault.isdecimal():
            self.send_response(int(fault))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "changed":
            server.content, server.etag = OTHER, '"two"'
        version = self.headers["If-Range"] or ""
        # RFC 9110, 13.1.5: a weak ETag never matches here
        same = (version in (server.etag, server.modified) and version[:2] != "W/") or server.ignores_if_range
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and same and not server.ignores_range else 0
        body = server.content[start:]
        self.send_response(206 if start else 200)
        size = len(server.content)
        headers = {
            "Content-Range": f"bytes {start}-{size - 1}/{size}" if start else "",
            "Content-Length": str(len(body)) if server.gives_length else "",
            "Content-Type": "text/html" if fault == "page" else "application/octet-stream",
            "ETag": server.etag,
            "Last-Modified": server.modified,
        }
        for name in filter(headers.get, headers):
            self.send_header(name, headers[name])
        self.end_headers()
        if fault.startswith("half"):
            body = body[: len(body) // 2]
        for place in range(0, len(body), 1 << 16):
            if fault == "hang" and place:
                time.sleep(1.0)
            server.sent += self.wfile.write(body[place : place + (1 << 16)])
            time.sleep(server.slow)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, target: Path, content: bytes = FILE, **options: Any) -> Fetched:
    found = fetch(server.url, target, **{"md5": md5(content), "pause": 0.01, "retries": 2, **options})
    assert target.read_bytes() == server.content
    return found


def test_it_is_there_whole_and_hashed(server: Server, tmp_path: Path) -> None:
    target, seen = tmp_path / "new" / "MMStar.tsv", []
    found = get(server, target, progress=lambda done, total: seen.append((done, total)))
    assert found == Fetched(hashlib.sha256(FILE).hexdigest(), md5(FILE), len(FILE))
    assert seen[-1] == (len(FILE), len(FILE))
    assert seen == sorted(seen)
    assert os.listdir(target.parent) == ["MMStar.tsv"]
    assert get(server, target) == found  # it is there: nobody is asked
    assert server.ranges == [None]


@pytest.mark.parametrize("named_by", ["etag", "modified"])
def test_a_broken_connection_goes_on_where_it_broke(server: Server, tmp_path: Path, named_by: str) -> None:
    if named_by == "modified":
        server.etag, server.modified = 'W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT"
    server.script = ["half", "half"]
    get(server, tmp_path / "a.tsv")
    places = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.ranges[1:] if asked]
    # What was sent and not yet written when it broke is at most one block.
    assert len(places) == 2
    assert len(FILE) / 2 - (1 << 16) <= places[0] <= len(FILE) / 2
    assert places[0] < places[1] <= len(FILE) * 3 / 4 + (1 << 16)
    assert server.sent <= len(FILE) + 2 * (1 << 16)


def test_many_breaks_are_fine_as_long_as_something_comes(server: Server, tmp_path: Path) -> None:
    server.script = ["half", "503", "429", "half", "500", "503", "half"]
    get(server, tmp_path / "a.tsv", retries=2)


def test_a_server_that_ignores_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.ignores_range, server.script = True, ["half"]
    get(server, tmp_path / "a.tsv")
    assert server.ranges[1] is not None
    # ... but not for ever: the second half never comes.
    server.script = ["half"] * 9
    with pytest.raises(DataError, match=r"cannot be downloaded .*2 retries"):
        get(server, tmp_path / "b.tsv")
    assert not (tmp_path / "b.tsv").exists()


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_is_never_glued_to_an_old_part(server: Server, tmp_path: Path, heeds: bool) -> None:
    server.ignores_if_range, server.script = not heeds, ["half", "changed"]
    get(server, tmp_path / "a.tsv", md5=None)  # without an md5 nothing else would notice
    assert (tmp_path / "a.tsv").read_bytes() == OTHER


def test_a_part_of_another_address_or_without_notes_is_not_used(server: Server, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.tsv.part").write_bytes(b"old")
    (tmp_path / "b.tsv.part.json").write_text('{"url": "http://elsewhere/", "version": "\\"one\\"", "total": 3}')
    for name in "ab":
        get(server, tmp_path / f"{name}.tsv")
    assert server.ranges == [None, None]


def test_another_file_than_registered(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"md5 {md5(FILE)}, but VLMEvalKit registers {md5(OTHER)}"):
        get(server, tmp_path / "a.tsv", OTHER)
    assert os.listdir(tmp_path) == [f"a.tsv.{md5(FILE)[:8]}"]  # kept aside, for people to look at


@pytest.mark.parametrize(("fault", "words"), [("404", "answered 404"), ("403", "answered 403"), ("page", "a web page")])
def test_what_waiting_does_not_mend_is_told_at_once(server: Server, tmp_path: Path, fault: str, words: str) -> None:
    server.script = [fault]
    with pytest.raises(DataError, match=words):
        get(server, tmp_path / "a.tsv")
    assert len(server.ranges) == 1
    assert os.listdir(tmp_path) == []


def test_a_server_that_is_busy_or_silent_for_a_while(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = ["503", "503"]
    get(server, tmp_path / "a.tsv")
    assert len(server.ranges) == 3
    monkeypatch.setattr(download, "TIMEOUT", (1.0, 0.3))
    server.script = ["hang"]
    get(server, tmp_path / "b.tsv")
    server.script = ["503"] * 9
    with pytest.raises(DataError, match=r"answered 503; 2 retries.*0 bytes are kept"):
        get(server, tmp_path / "c.tsv")
    assert len(server.script) == 6
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch("http://127.0.0.1:9/a.tsv", tmp_path / "d.tsv", md5=None, retries=1, pause=0.01)


def test_without_a_length(server: Server, tmp_path: Path) -> None:
    server.gives_length, server.script = False, ["", "half"]
    get(server, tmp_path / "a.tsv")
    with pytest.raises(DataError, match="but VLMEvalKit registers"):  # only the md5 can tell
        get(server, tmp_path / "b.tsv")


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=rf"a\.tsv cannot be written.*No space.*{len(FILE)} bytes are needed"):
        get(server, tmp_path / "a.tsv")
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        get(server, tmp_path / "file" / "a.tsv")


def test_two_at_once_download_once(server: Server, tmp_path: Path) -> None:
    server.slow = 0.01
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: get(server, tmp_path / "a.tsv"), range(4)))
    assert len(set(found)) == 1
    assert server.ranges == [None]
    assert os.listdir(tmp_path) == ["a.tsv"]


def test_who_waits_for_a_download_that_fails_tries_it_too(server: Server, tmp_path: Path) -> None:
    server.slow = 0.01
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(get, server, tmp_path / "a.tsv", OTHER) for _ in range(2)]
        for one in both:
            with pytest.raises(DataError, match="but VLMEvalKit registers"):
                one.result(30)
    assert server.ranges == [None, None]
    assert os.listdir(tmp_path) == [f"a.tsv.{md5(FILE)[:8]}"]


def test_a_killed_process_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.slow, target = 0.05, tmp_path / "a.tsv"
    code = (
        "import sys; from pathlib import Path; from moslora_xtuner.eval.tasks.download import fetch; "
        "fetch(sys.argv[1], Path(sys.argv[2]), md5=None)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url, str(target)])
    part, deadline = tmp_path / "a.tsv.part", time.monotonic() + 60
    while not part.is_file() or part.stat().st_size < len(FILE) / 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept, server.slow = part.stat().st_size, 0.0
    assert len(FILE) / 4 <= kept < len(FILE)
    get(server, target)
    assert server.ranges == [None, f"bytes={kept}-"]
    assert target.read_bytes() == FILE


def registering(url: object, md5: str | None) -> SimpleNamespace:
    """VLMEvalKit's module of datasets, as far as addresses go."""
    registered = {} if md5 is None else {"AI2D_TEST": md5}
    return SimpleNamespace(ImageMCQDataset=SimpleNamespace(DATASET_URL={"AI2D_TEST": url}, DATASET_MD5=registered))


def test_the_address_is_the_registered_one_and_only_the_exact_name_counts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vlmeval_imports, "import_datasets", lambda _: registering(server.url, md5(FILE)))
    (tmp_path / "AI2D_TEST_NO_MASK.tsv").write_bytes(b"another")
    benchmark, log = BENCHMARKS["AI2D_TEST"], tmp_path / "log"
    first = obtain(benchmark, tmp_path, log, quiet=True)
    assert (first.sha256, first.official, first.changed) == (hashlib.sha256(FILE).hexdigest(), True, False)
    assert f"downloaded from {server.url}" in (tmp_path / "moslora_tables.json").read_text()
    (tmp_path / "AI2D_TEST.tsv").write_bytes(OTHER)  # one's own: never replaced
    again = obtain(benchmark, tmp_path, log, quiet=True)
    assert (again.official, again.changed) == (False, True)
    assert (tmp_path / "AI2D_TEST.tsv").read_bytes() == OTHER
    assert len(server.ranges) == 1


@pytest.mark.parametrize("url", ["", None, ["http://a/b.tsv"], "http://a/page", "ftp://a/b.tsv"])
def test_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: object) -> None:
    monkeypatch.setattr(vlmeval_imports, "import_datasets", lambda _: registering(url, None))
    with pytest.raises(DataError, match=r"AI2D_TEST\.tsv does not exist.*no address"):
        obtain(BENCHMARKS["AI2D_TEST"], tmp_path, tmp_path / "log", quiet=True)


def test_vlmevalkits_own_addresses(tmp_path: Path) -> None:
    assert source(BENCHMARKS["MME"], tmp_path / "log") == (
        "https://opencompass.openxlab.space/utils/VLMEval/MME.tsv",
        "b36b43c3f09801f5d368627fb92187c3",
    )
    assert source(BENCHMARKS["DigitsMME"], tmp_path / "log") == (None, None)
