"""A check reads on after a problem, and every record ends up sound or named."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_cases import CASES, check_all, image_folder, sound, talk, write, write_case
from hypothesis import given, settings
from hypothesis import strategies as st

from moslora_xtuner.data.checking import check as checking
from moslora_xtuner.data.checking.worker import Rules
from moslora_xtuner.data.problem_kinds import FAULTS, REMARKS
from moslora_xtuner.errors import DataError, MoSLoRAError

WriteJson = Callable[[list[Any]], Path]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", CASES)
def test_every_bad_record_is_named_and_the_others_are_sound(name: str, suffix: str, tmp_path: Path) -> None:
    case = CASES[name]
    source, images = write_case(case, tmp_path, suffix)
    report, problems = check_all(source, images)
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
    report, problems = check_all(write_json(records), image_root)
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
    report, problems = check_all(write_json([sound("a", "liar.jpg"), sound("a"), long]), image_root, max_length=100)
    assert [p.kind for p in problems] == ["wrong extension", "duplicate id", "over-long text"]
    assert all(p.kind in REMARKS for p in problems)
    assert (report.bad, report.within(0)) == (0, True)
    assert "501 characters, about 125 tokens" in report.table()
    assert "no faults" in report.table()


def test_the_table_shows_three_examples_of_a_kind(write_json: WriteJson, image_root: Path) -> None:
    report, problems = check_all(write_json([sound(str(n), "none.png") for n in range(30)]), image_root)
    assert len(problems) == report.bad == 30
    assert "missing image: 30" in report.table()
    assert report.table().count("(id ") == 3
    assert len(report.tally.examples["missing image"]) == 20


def test_without_decoding_images_are_not_opened(write_json: WriteJson, image_root: Path) -> None:
    report, problems = check_all(write_json([sound("cut", "truncated.png")]), image_root, decode=False)
    assert (problems, report.bad) == ([], 0)


@pytest.mark.parametrize("text", ["[]", " [\n] ", "", "\n"])
def test_an_empty_list_is_refused(tmp_path: Path, image_root: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match="no record"):
        check_all(tmp_path / "a.json", image_root)


def test_a_missing_image_folder_is_one_error(write_json: WriteJson, tmp_path: Path) -> None:
    source = write_json([sound("a", "a.png"), sound("t")])
    with pytest.raises(DataError, match=r"image folder .* does not exist, but 1 records"):
        check_all(source, tmp_path / "none")
    assert check_all(write_json([sound("t")]), tmp_path / "none")[0].bad == 0


def test_an_archive_is_no_image_folder(write_json: WriteJson, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(DataError, match=r"images\.zip is a zip file, not the folder of the images: unpack it"):
        check_all(write_json([sound("a", "a.png")]), tmp_path / "images.zip")


def test_processes_find_the_same_as_one(tmp_path: Path, image_root: Path) -> None:
    records = [sound(f"r{n % 1700}", "a.png" if n % 3 else None) for n in range(2300)]
    for place in (0, 499, 500, 1200, 2299):
        records[place] = sound("gone", f"none{place}.png")
    source = write(tmp_path / "a.json", records)
    one, two = check_all(source, image_root), check_all(source, image_root, workers=2, recheck=True)
    assert one[1] == two[1]
    assert one[0].table() == two[0].table()
    assert one[0].bad == 5
    # Of 600 pairs four have lost a half to "gone", which itself comes back four times.
    assert one[0].tally.counts["duplicate id"] == 600 - 4 + 4


def test_progress_ends_at_the_number_of_records(tmp_path: Path, image_root: Path) -> None:
    source = write(tmp_path / "a.json", [sound(str(n)) for n in range(1300)])
    seen: list[tuple[int, int]] = []
    check_all(source, image_root, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [500, 1000, 1300]
    assert seen[-1] == (1300, 1300)
    assert all(abs(total - 1300) < 30 for _, total in seen)


def test_a_killed_worker_is_an_error_and_no_hang(tmp_path: Path, image_root: Path, monkeypatch: Any) -> None:
    source = write(tmp_path / "a.json", [sound(str(n)) for n in range(1300)])
    monkeypatch.setattr(checking, "Examiner", KillsItself)
    with pytest.raises(MoSLoRAError, match="ended from outside"):
        check_all(source, image_root, workers=2)


class KillsItself:
    def __init__(self, rules: Rules) -> None:
        pass

    def __call__(self, job: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_problems_as_json_name_everything(tmp_path: Path, image_root: Path) -> None:
    source = write(tmp_path / "a.json", [sound("gone", "none.png")])
    _, (problem,) = check_all(source, image_root)
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
    report, problems = check_all(source, images)
    named = {problem.position for problem in problems if problem.fault}
    assert report.bad <= len(named) <= report.records + 1
    # Training and check agree on what is sound: each record that is not named can be read whole.
    assert report.records - report.bad >= report.text_only
    json.dumps([problem.as_json() for problem in problems])
