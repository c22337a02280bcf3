"""What DigitsVQA puts on disk: the same bytes twice, in LLaVA's and VLMEvalKit's forms."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moslora_xtuner.data.checking.check import check
from moslora_xtuner.data.checking.worker import Rules
from moslora_xtuner.data.digits import write as writing
from moslora_xtuner.data.digits.write import TEST_SETS, mmbench_rows, mme_rows, textvqa_rows, write_digits
from moslora_xtuner.data.reading.sources import open_sources
from moslora_xtuner.errors import DataError, OutputError

csv.field_size_limit(1 << 24)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "LMUData" / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, which is most of the time and nothing of the questions."""
    monkeypatch.setattr(writing, "_png", lambda scene: repr(scene).encode())


def test_the_same_arguments_give_the_same_bytes(tiny_data: Path, tmp_path: Path) -> None:
    write_digits(tmp_path / "again", seed=0, scenes=48, test_questions=16)
    wanted = {name: digest for name, digest in digests(tiny_data).items() if not name.startswith("store/")}
    assert digests(tmp_path / "again") == wanted


def test_another_seed_changes_the_training_set_alone(tiny_data: Path, tmp_path: Path) -> None:
    write_digits(tmp_path / "other", seed=1, scenes=48, test_questions=16)
    one, other = digests(tiny_data), digests(tmp_path / "other")
    assert one["train.json"] != other["train.json"]
    for name in TEST_SETS:
        assert one[f"LMUData/{name}.tsv"] == other[f"LMUData/{name}.tsv"]


def test_the_manifest_tells_the_truth(tiny_data: Path) -> None:
    facts = json.loads((tiny_data / "manifest.json").read_text())
    found = digests(tiny_data)
    assert set(facts["sha256"]) == {"train.json", *(f"LMUData/{name}.tsv" for name in TEST_SETS)}
    assert all(found[name] == digest for name, digest in facts["sha256"].items())
    assert facts["rows"] == {name: len(table(tiny_data, name)) for name in TEST_SETS}


def test_the_training_set_passes_its_own_check(tiny_data: Path) -> None:
    sources = open_sources(tiny_data / "train.json")
    report = check(sources, Rules(tuple(sources), tiny_data / "images"), workers=1)
    assert (report.records, report.tally.counts) == (48, {})
    records = json.loads((tiny_data / "train.json").read_text(encoding="utf-8"))
    assert {path.name for path in (tiny_data / "images").iterdir()} == {r["image"] for r in records if "image" in r}
    image = Image.open(next((tiny_data / "images").iterdir()))
    assert (image.size, image.mode, image.format) == ((96, 96), "RGB", "PNG")


@pytest.mark.usefixtures("no_pictures")
def test_a_large_training_set(tmp_path: Path) -> None:
    """Ids once each, `<image>` exactly where there is an image, and about 6 % text alone."""
    write_digits(tmp_path / "d", seed=3, scenes=3000, test_questions=16)
    records = json.loads((tmp_path / "d" / "train.json").read_text(encoding="utf-8"))
    assert len({record["id"] for record in records}) == 3000
    for record in records:
        text = [message["value"] for message in record["conversations"]]
        assert sum(part.count("<image>") for part in text) == ("image" in record)
        assert text[0].startswith("<image>\n") == ("image" in record)
    share = sum("image" not in record for record in records) / len(records)
    assert share == pytest.approx(0.06, abs=0.013)  # three standard deviations
    kinds = Counter(any(not part.isascii() for part in (m["value"] for m in r["conversations"])) for r in records)
    assert min(kinds.values()) > 900  # both languages


@pytest.mark.usefixtures("no_pictures")
def test_a_text_only_record_holds_the_answers_in_words(tmp_path: Path) -> None:
    write_digits(tmp_path / "d", seed=3, scenes=200, test_questions=16)
    records = json.loads((tmp_path / "d" / "train.json").read_text(encoding="utf-8"))
    alone = [record["conversations"][0]["value"] for record in records if "image" not in record]
    assert alone
    assert all(text.startswith(("A picture shows: ", "一张图片：")) for text in alone)


@pytest.mark.usefixtures("no_pictures")
def test_each_test_set_has_at_least_300_questions_by_default() -> None:
    import inspect

    count = inspect.signature(write_digits).parameters["test_questions"].default
    rows = mmbench_rows(0, count, "en")
    assert sum(row["index"] < writing.ROTATION_OFFSET for row in rows) >= 300
    abilities = Counter(row["l2-category"] for row in rows if row["index"] < writing.ROTATION_OFFSET)
    assert len(abilities) == 6
    assert set(abilities.values()) == {count // 6}
    mme = mme_rows(0, count)
    assert len(mme) >= 300
    assert len(set(Counter(row["category"] for row in mme).values())) == 1
    assert len(textvqa_rows(0, count)) >= 300


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("language", ["en", "cn"])
def test_rotations_move_the_answer_and_keep_its_words(language: str) -> None:
    rows = mmbench_rows(0, 60, language)
    by_index = {int(row["index"]): row for row in rows}
    assert len(by_index) == len(rows)
    assert [int(row["index"]) for row in rows] == sorted(by_index)
    for first in range(1, 61):
        turns = [index for index in by_index if index % 1_000_000 == first]
        options = [[by_index[i][letter] for letter in "ABCD" if by_index[i][letter]] for i in sorted(turns)]
        assert len(turns) == len(options[0]), "one rotation an option"
        answers = {by_index[i][by_index[i]["answer"]] for i in turns}
        assert len(answers) == 1, "the right words are the same in each rotation"
        assert len({by_index[i]["answer"] for i in turns}) == len(turns), "at another letter each time"
        for turn, index in enumerate(sorted(turns)):
            assert index == first + turn * 1_000_000
            assert options[turn] == options[0][turn:] + options[0][:turn]
            assert (by_index[index]["image"] == str(first)) == (turn > 0)
            assert by_index[index]["question"] == by_index[first]["question"]


@pytest.mark.usefixtures("no_pictures")
def test_both_languages_have_the_same_pictures_and_answers() -> None:
    english, chinese = mmbench_rows(0, 60, "en"), mmbench_rows(0, 60, "cn")
    for one, other in zip(english, chinese, strict=True):
        assert [one[key] for key in ("index", "image", "answer", "category", "l2-category")] == [
            other[key] for key in ("index", "image", "answer", "category", "l2-category")
        ]
        assert str(one["question"]).isascii()
        assert not str(other["question"]).isascii()


@pytest.mark.usefixtures("no_pictures")
def test_mme_asks_two_questions_a_picture() -> None:
    rows = mme_rows(0, 64)
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert [row["answer"] for row in rows] == ["Yes", "No"] * (len(rows) // 2)
    pictures = Counter((row["category"], row["image_path"]) for row in rows)
    assert set(pictures.values()) == {2}
    for row in rows:
        assert str(row["question"]).endswith(" Please answer yes or no.")
        first = int(row["index"]) // 2 * 2
        assert (row["image"] == str(first)) == (row["index"] != first)
        assert row["image_path"] == rows[first]["image_path"]


@pytest.mark.usefixtures("no_pictures")
def test_textvqa_has_ten_agreeing_answers() -> None:
    rows = textvqa_rows(0, 60)
    for row in rows:
        answers: list[Any] = ast.literal_eval(row["answer"])
        assert len(answers) == 10
        assert len(set(answers)) == 1
        assert answers[0].isascii()
    assert len({row["index"] for row in rows}) == 60


def test_the_pictures_of_the_tables_are_png(tiny_data: Path) -> None:
    sizes = set()
    for name in TEST_SETS:
        rows = table(tiny_data, name)
        whole = [row for row in rows if len(row["image"]) > 64]
        assert whole
        for row in whole:
            sizes.add(Image.open(io.BytesIO(base64.b64decode(row["image"]))).size)
        known = {row["index"] for row in whole}
        assert all(row["image"] in known for row in rows if len(row["image"]) <= 64)
    assert {max(size) for size in sizes} == {96}
    assert any(w > h for w, h in sizes)
    assert any(w < h for w, h in sizes)
    assert (96, 96) in sizes


def test_a_folder_with_other_settings_is_left_as_it_is(tiny_data: Path, tmp_path: Path) -> None:
    before = digests(tiny_data)
    assert write_digits(tiny_data, seed=0, scenes=48, test_questions=16) == tiny_data
    with pytest.raises(OutputError, match=r"seed was 0, is 1"):
        write_digits(tiny_data, seed=1, scenes=48, test_questions=16)
    assert digests(tiny_data) == before
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match="not made by moslora"):
        write_digits(tmp_path, scenes=1, test_questions=16)


@pytest.mark.parametrize(("scenes", "questions"), [(0, 16), (1, 15)])
def test_too_few_are_refused(tmp_path: Path, scenes: int, questions: int) -> None:
    with pytest.raises(DataError, match=f"got {scenes} and {questions}"):
        write_digits(tmp_path / "d", scenes=scenes, test_questions=questions)
    assert not (tmp_path / "d").exists()


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_digits(tmp_path / "d", scenes=5, test_questions=16, progress=stop)
    assert list(tmp_path.iterdir()) == []
    ticks: list[tuple[int, int]] = []
    write_digits(tmp_path / "d", scenes=5, test_questions=16, progress=lambda *at: ticks.append(at))
    assert ticks == [(n, 5) for n in range(1, 6)]
