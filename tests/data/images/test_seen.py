"""What is known of images from earlier looks: used while the file stays the same, and never in the way."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_cases import check_all, image_folder, sound, write
from PIL import Image

from moslora_xtuner.data.images import check as image_check
from moslora_xtuner.data.images.seen import ledger_file

WriteJson = Callable[[list[Any]], Path]


def test_an_image_is_decoded_once_as_long_as_it_stays_the_same(
    write_json: WriteJson, image_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    real = image_check.decode
    monkeypatch.setattr(image_check, "decode", lambda path, name: decoded.append(name) or real(path, name))
    source = write_json([sound("a", "a.png"), sound("cut", "truncated.png"), sound("b", "deep/b.png")])
    first = check_all(source, image_root)
    assert decoded == ["a.png", "truncated.png", "deep/b.png"]
    assert check_all(source, image_root)[1] == first[1]
    assert len(decoded) == 3
    # A file that is mended is looked at again, one that went is missed, and --recheck looks at all.
    (image_root / "truncated.png").write_bytes((image_root / "a.png").read_bytes())
    (image_root / "deep" / "b.png").unlink()
    assert [p.kind for p in check_all(source, image_root)[1]] == ["missing image"]
    assert decoded[3:] == ["truncated.png"]
    check_all(source, image_root, recheck=True)
    assert decoded[4:] == ["a.png", "truncated.png"]


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + bytes(200)])
def test_a_broken_ledger_is_begun_anew(write_json: WriteJson, image_root: Path, content: bytes) -> None:
    source = write_json([sound("cut", "truncated.png")])
    file = ledger_file(image_root)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert [p.kind for p in check_all(source, image_root)[1]] == ["truncated image"]
    assert [p.kind for p in check_all(source, image_root)[1]] == ["truncated image"]


def test_ledgers_that_nobody_uses_go(write_json: WriteJson, image_root: Path, cache: Path) -> None:
    source = write_json([sound("a", "a.png")])
    check_all(source, image_root)
    (ledger,) = (cache / "images").iterdir()
    for name, days in (("old", 91), ("new", 89)):
        (cache / "images" / f"{name}.sqlite").touch()
        os.utime(cache / "images" / f"{name}.sqlite", (time.time() - days * 86_400,) * 2)
    check_all(source, image_root)
    assert {file.name for file in (cache / "images").iterdir()} == {ledger.name, "new.sqlite"}


def test_no_place_for_the_ledger(
    write_json: WriteJson, image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOSLORA_CACHE", str(tmp_path / "file"))
    assert [p.kind for p in check_all(write_json([sound("cut", "truncated.png")]), image_root)[1]] == [
        "truncated image"
    ]
    assert "cannot be written" in capsys.readouterr().err


def many(folder: Path, records: int) -> tuple[Path, Path]:
    """Records whose images take a while to decode."""
    images = image_folder(folder / "images")
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "0.png")
    for n in range(1, records):
        os.link(images / "0.png", images / f"{n}.png")
    return write(folder / "a.json", [sound(f"r{n}", f"{n}.png") for n in range(records)]), images


@pytest.mark.slow
def test_an_interrupted_check_goes_on_where_it_was(tmp_path: Path, cache: Path) -> None:
    source, images = many(tmp_path, 8000)
    command = [sys.executable, "-m", "moslora_xtuner", "data", "check", str(source), "--images", str(images)]
    command += ["--workers", "2"]
    # A shell lets what it starts in the background ignore the interrupt, and so would a child of this process.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heeding
    ) as process:
        deadline = time.monotonic() + 60
        while not remembered(ledger_file(images)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said + out
    known = remembered(ledger_file(images))
    assert 500 <= len(known) < 8000
    # What is remembered is not looked at again: here it remembers something that is not so.
    with sqlite3.connect(ledger_file(images)) as base:
        base.execute("update images set findings = ?", (json.dumps([["CMYK image", "so it is remembered"]]),))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "8000 records, 0 text only, no faults" in done.stdout
    assert f"CMYK image: {len(known)} (remark)" in done.stdout
    assert len(remembered(ledger_file(images))) == 8000


def remembered(ledger: Path) -> list[str]:
    """The images that a ledger knows; none where it is not made or just being written."""
    with suppress(sqlite3.Error), sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as base:
        return [name for (name,) in base.execute("select path from images")]
    return []
