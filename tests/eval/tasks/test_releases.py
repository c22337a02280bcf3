"""Releases of a table that are known beside the one that VLMEvalKit registers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.tasks import releases
from moslora_xtuner.eval.tasks.checksums import check
from moslora_xtuner.eval.tasks.download import fetch

NAME = "MMBench_TEST_EN_V11"
CONTENT = b"index\tquestion\n1\tWhich?\n"
MD5, OTHER = hashlib.md5(CONTENT).hexdigest(), "0" * 32


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = tmp_path / "served"
    served.mkdir()
    (served / f"{NAME}.tsv").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield f"http://127.0.0.1:{running.server_port}/{NAME}.tsv"
        running.shutdown()


def test_one_that_is_known_is_taken_and_both_are_named(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(releases.RELEASES, NAME, {MD5: "the second"})
    fetch(address, tmp_path / f"{NAME}.tsv", md5=OTHER)
    table = check(tmp_path, NAME, OTHER)
    assert (table.official, table.release, table.known) == (False, "the second", True)
    assert (table.md5, table.registered) == (MD5, OTHER)


def test_any_other_is_kept_aside_and_explained(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"kept aside as .*{NAME}.tsv.{MD5[:8]}"):
        fetch(address, tmp_path / f"{NAME}.tsv", md5=OTHER)
    assert not (tmp_path / f"{NAME}.tsv").exists()
    assert (tmp_path / f"{NAME}.tsv.{MD5[:8]}").read_bytes() == CONTENT


def test_the_installed_release_registers_one_of_those_listed() -> None:
    from vlmeval.dataset import ImageMCQDataset

    for name, known in releases.RELEASES.items():
        assert releases.known(name, ImageMCQDataset.DATASET_MD5[name]) in (releases.HELD_BACK, releases.PUBLIC)
        assert set(known.values()) == {releases.HELD_BACK, releases.PUBLIC}
    assert releases.known("MME", OTHER) is None
