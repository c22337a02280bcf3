"""A check reads on after a problem, and every record ends up sound or named."""

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
from bad_cases import CASES, image_folder, sound, talk, write, write_case
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from moslora_xtuner.data.checking import check as checking
from moslora_xtuner.data.checking.check import CheckReport, check
from moslora_xtuner.data.checking.worker import Rules
from moslora_xtuner.data.images import check as image_check
from moslora_xtuner.data.images.seen import ledger_file
from moslora_xtuner.data.problem_kinds import FAULTS, REMARKS
from moslora_xtuner.data.reading.problems import Problem
from moslora_xtuner.data.reading.sources import open_sources
from moslora_xtuner.errors import DataError, MoSLoRAError

WriteJson = Callable[[list[Any]], Path]


def run(source: Path | list[Path], images: Path, **options: Any) -> tuple[CheckReport, list[Problem]]:
    """Check in this process unless told otherwise; the report and every problem."""
    rules = {name: options.pop(name) for name in ("decode", "max_images", "max_length") if name in options}
    found: list[Problem] = []
    sources = open_sources(source)
    report = check(
        sources,
        Rules(tuple(sources), images, **rules),
        problem=found.append,
        **{"workers": 1, **options},
    )
    return report, found


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", CASES)
def test_every_bad_record_is_named_and_the_others_are_sound(name: str, suffix: str, tmp_path: Path) -> None:
    case = CASES[name]
    source, images = write_case(case, tmp_path, suffix)
    report, problems = run(source, images)
    assert (report.records, report.bad, report.text_only) == (3, 1, 1)
    assert {(problem.position, problem.record) for problem in problems} == {(1, case.name)}
    assert case.kind in [problem.kind for problem in problems]
    assert all(problem.fault for problem in problems)
    # The byte leads into the bad record's text.
    text = source.read_bytes()
    start = text.index(b"\n") + 1
    end = text.index(b"\n", start)
    assert all(problem.byte is not None and start <= problem.byte < end for problem in problems)
    assert f"{case.kind}: 1" in report.table()
    assert f"record 1 (id {case.name}, byte " in report.table()
    assert report.within(0.34)
    assert not report.within(0.33)
    assert not report.within(0)


def test_every_kind_of_fault_has_a_case() -> None:
    known_elsewhere = {"no answer left", "image cut off"}  # test_prepare.py: they need a tokenizer
    assert {case.kind for case in CASES.values()} == FAULTS.keys() - known_elsewhere


def test_several_problems_in_the_order_of_the_file(write_json: WriteJson, image_root: Path) -> None:
    records = [
        sound("text"),
        sound("a", "a.png"),
        sound("text"),
        sound("gone", "none.png"),
        {**sound("both", "../a.png"), "conversations": []},
        sound("b", "deep/b.png"),
    ]
    report, problems = run(write_json(records), image_root)
    assert [(p.position, p.record, p.kind) for p in problems] == [
        (2, "text", "duplicate id"),
        (3, "gone", "missing image"),
        (4, "both", "image outside the folder"),
        (4, "both", "empty conversation"),
    ]
    assert (report.records, report.bad, report.faults, report.text_only) == (6, 2, 3, 2)
    assert "6 records, 2 text only, 3 faults in 2 records" in report.table()
    assert "the same id as record 0" in report.table()


def test_remarks_do_not_make_a_record_bad(write_json: WriteJson, image_root: Path) -> None:
    (image_root / "liar.jpg").write_bytes((image_root / "a.png").read_bytes())
    long = {"id": "long", "conversations": talk("Q", "word " * 100)}
    report, problems = run(write_json([sound("a", "liar.jpg"), sound("a"), long]), image_root, max_length=100)
    assert [p.kind for p in problems] == ["wrong extension", "duplicate id", "over-long text"]
    assert all(p.kind in REMARKS for p in problems)
    assert (report.bad, report.within(0)) == (0, True)
    assert "501 characters, about 125 tokens" in report.table()
    assert "no faults" in report.table()


def test_the_table_shows_three_examples_of_a_kind(write_json: WriteJson, image_root: Path) -> None:
    report, problems = run(write_json([sound(str(n), "none.png") for n in range(30)]), image_root)
    assert len(problems) == report.bad == 30
    assert "missing image: 30" in report.table()
    assert report.table().count("(id ") == 3
    assert len(report.tally.examples["missing image"]) == 20


def test_without_decoding_images_are_not_opened(write_json: WriteJson, image_root: Path) -> None:
    report, problems = run(write_json([sound("cut", "truncated.png")]), image_root, decode=False)
    assert (problems, report.bad) == ([], 0)


@pytest.mark.parametrize("text", ["[]", " [\n] ", "", "\n"])
def test_an_empty_list_is_refused(tmp_path: Path, image_root: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="no record"):
        run(tmp_path / "a.json", image_root)


def test_a_missing_image_folder_is_one_error(write_json: WriteJson, tmp_path: Path) -> None:
    source = write_json([sound("a", "a.png"), sound("t")])
    with pytest.raises(DataError, match=r"image folder .* does not exist, but 1 records"):
        run(source, tmp_path / "none")
    assert run(write_json([sound("t")]), tmp_path / "none")[0].bad == 0


def test_processes_find_the_same_as_one(tmp_path: Path, image_root: Path) -> None:
    records = [sound(f"r{n % 1700}", "a.png" if n % 3 else None) for n in range(2300)]
    for place in (0, 499, 500, 1200, 2299):
        records[place] = sound("gone", f"none{place}.png")
    source = write(tmp_path / "a.json", records)
    one, two = run(source, image_root), run(source, image_root, workers=2, recheck=True)
    assert one[1] == two[1]
    assert one[0].table() == two[0].table()
    assert one[0].bad == 5
    # Of 600 pairs four have lost a half to "gone", which itself comes back four times.
    assert one[0].tally.counts["duplicate id"] == 600 - 4 + 4


def test_progress_ends_at_the_number_of_records(tmp_path: Path, image_root: Path) -> None:
    source = write(tmp_path / "a.json", [sound(str(n)) for n in range(1300)])
    seen: list[tuple[int, int]] = []
    run(source, image_root, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [500, 1000, 1300]
    assert seen[-1] == (1300, 1300)
    assert all(abs(total - 1300) < 30 for _, total in seen)


def test_an_image_is_decoded_once_as_long_as_it_stays_the_same(
    write_json: WriteJson, image_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    real = image_check.decode
    monkeypatch.setattr(image_check, "decode", lambda path, name: decoded.append(name) or real(path, name))
    source = write_json([sound("a", "a.png"), sound("cut", "truncated.png"), sound("b", "deep/b.png")])
    first = run(source, image_root)
    assert decoded == ["a.png", "truncated.png", "deep/b.png"]
    assert run(source, image_root)[1] == first[1]
    assert len(decoded) == 3
    # A file that is mended is looked at again, one that went is missed, and --recheck looks at all.
    (image_root / "truncated.png").write_bytes((image_root / "a.png").read_bytes())
    (image_root / "deep" / "b.png").unlink()
    assert [p.kind for p in run(source, image_root)[1]] == ["missing image"]
    assert decoded[3:] == ["truncated.png"]
    run(source, image_root, recheck=True)
    assert decoded[4:] == ["a.png", "truncated.png"]


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + bytes(200)])
def test_a_broken_ledger_is_begun_anew(write_json: WriteJson, image_root: Path, content: bytes) -> None:
    source = write_json([sound("cut", "truncated.png")])
    file = ledger_file(image_root)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert [p.kind for p in run(source, image_root)[1]] == ["truncated image"]
    assert [p.kind for p in run(source, image_root)[1]] == ["truncated image"]


def test_ledgers_that_nobody_uses_go(write_json: WriteJson, image_root: Path, cache: Path) -> None:
    source = write_json([sound("a", "a.png")])
    run(source, image_root)
    (ledger,) = (cache / "images").iterdir()
    for name, days in (("old", 91), ("new", 89)):
        (cache / "images" / f"{name}.sqlite").touch()
        os.utime(cache / "images" / f"{name}.sqlite", (time.time() - days * 86_400,) * 2)
    run(source, image_root)
    assert {file.name for file in (cache / "images").iterdir()} == {ledger.name, "new.sqlite"}


def test_no_place_for_the_ledger(
    write_json: WriteJson, image_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOSLORA_CACHE", str(tmp_path / "file"))
    assert [p.kind for p in run(write_json([sound("cut", "truncated.png")]), image_root)[1]] == ["truncated image"]
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


def test_a_killed_worker_is_an_error_and_no_hang(tmp_path: Path, image_root: Path, monkeypatch: Any) -> None:
    source = write(tmp_path / "a.json", [sound(str(n)) for n in range(1300)])
    monkeypatch.setattr(checking, "Examiner", KillsItself)
    with pytest.raises(MoSLoRAError, match="ended from outside"):
        run(source, image_root, workers=2)


class KillsItself:
    def __init__(self, rules: Rules) -> None:
        pass

    def __call__(self, job: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_problems_as_json_name_everything(tmp_path: Path, image_root: Path) -> None:
    source = write(tmp_path / "a.json", [sound("gone", "none.png")])
    _, (problem,) = run(source, image_root)
    assert json.loads(json.dumps(problem.as_json())) == {
        "kind": "missing image",
        "record": "gone",
        "position": 0,
        "detail": f"'none.png' is not in {image_root}",
        "byte": 1,
        "source": "a.json",
    }


messages = st.fixed_dictionaries(
    {},
    optional={
        "from": st.sampled_from(["human", "gpt", "user", "system", "x", None, 3]),
        "value": st.sampled_from(["Q", "<image>\nQ", "", "\ud83d", None, ["x"], "<image><image>"]),
    },
)
wild = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["a", 1, None, "", [], {"x": 1}, "\ud83d"]),
        "image": st.sampled_from(["a.png", "a.jpg", "gone.png", "", ".", "/", "..", "../a.png", None, [], ["a.png"], 3])
        | st.text(max_size=6),
        "conversations": st.lists(messages | st.none() | st.text(max_size=3), max_size=4) | st.none() | st.text(),
    },
)


@settings(max_examples=200, deadline=None)
@given(records=st.lists(wild, min_size=1, max_size=5), cut=st.integers(0, 40), lines=st.booleans())
def test_whatever_it_is_given_it_ends_with_a_report(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], cut: int, lines: bool
) -> None:
    folder = tmp_path_factory.mktemp("wild")
    images = image_folder(folder / "images")
    source = write(folder / ("a.jsonl" if lines else "a.json"), records)
    content = source.read_bytes()
    source.write_bytes(content[: max(len(content) - cut, 2)])
    report, problems = run(source, images)
    named = {problem.position for problem in problems if problem.fault}
    assert report.bad <= len(named) <= report.records + 1
    # Training and check agree on what is sound: each record that is not named can be read whole.
    assert report.records - report.bad >= report.text_only
    json.dumps([problem.as_json() for problem in problems])
