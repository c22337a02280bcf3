"""The stand-ins for the paper's benchmarks: read, asked and scored by VLMEvalKit's own classes."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import make_benchmarks_like as script
import pytest
from PIL import Image

from moslora_xtuner.errors import OutputError, UsageError
from moslora_xtuner.eval import vlmeval_imports
from moslora_xtuner.eval.scoring.score import Place, score
from moslora_xtuner.eval.tasks import tables
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, Benchmark

# 24 questions. MMBench: options 4 4 3 4 4, then 3 4 2 4 over and over: 19 + 4 * 13 + 9. MME: a pair for each of 14.
ROWS = {
    "MMBench_TEST_EN": 80, "MMBench_TEST_CN": 80, "MMBench_DEV_EN": 80, "MMBench_DEV_CN": 80, "SEEDBench_IMG": 24,
    "AI2D_TEST": 24, "ScienceQA_TEST": 24, "TextVQA_VAL": 24, "MathVista_MINI": 24, "MMVet": 24, "MME": 28,
}  # fmt: skip
MMBENCH = tuple(name for name in ROWS if name.startswith("MMBench"))
CLOSED = tuple(name for name in ROWS if name not in ("MathVista_MINI", "MMVet"))
# the 20 abilities of MMBench 1.0 (arXiv 2307.06281) by the abbreviation that VLMEvalKit reports
ABILITIES = {
    "CP": "image_style image_topic image_scene image_emotion image_quality",
    "FP-S": "object_localization attribute_recognition celebrity_recognition ocr",
    "FP-C": "spatial_relationship attribute_comparison action_recognition",
    "AR": "physical_property_reasoning function_reasoning identity_reasoning",
    "RR": "social_relation nature_relation physical_relation",
    "LR": "structuralized_imagetext_understanding future_prediction",
}

Read = Callable[[str], Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables with seed 0."""
    folder = tmp_path_factory.mktemp("like") / "LMUData"
    script.make_benchmarks(folder)
    return folder


@pytest.fixture(scope="module")
def key(made: Path) -> dict[str, Any]:
    """Right and wrong answers, as they stand on disk."""
    return dict(json.loads((made / "key.json").read_text(encoding="utf-8")))


def benchmark_of(name: str) -> Benchmark:
    """What the project knows of a benchmark; MMBench's dev splits are like its test splits."""
    like = replace(BENCHMARKS[name.replace("DEV", "TEST")], dataset=name)
    return replace(like, split="dev") if "DEV" in name else like


@pytest.fixture(scope="module")
def dataset(made: Path) -> Read:
    """VLMEvalKit's dataset by name, read as the project reads it."""
    return cache(lambda name: tables.build_dataset(benchmark_of(name), made, made.parent / "log"))


def raw(folder: Path, name: str) -> list[dict[str, str]]:
    """The table as text, without pandas."""
    return list(csv.DictReader(io.StringIO((folder / f"{name}.tsv").read_text(encoding="utf-8")), delimiter="\t"))


def prompt(data: Any, place: int, root: Path) -> tuple[str, str]:
    """The path of the picture and the text that VLMEvalKit would ask row `place` with."""
    with vlmeval_imports.environment(LMUData=str(root)):
        image, text = data.build_prompt(place)
    assert (image["type"], text["type"]) == ("image", "text")
    return image["value"], text["value"]


def prompt_of(data: Any, question: str, root: Path) -> str:
    """What VLMEvalKit asks for the first row whose question begins so."""
    return prompt(data, [text.startswith(question) for text in data.data["question"]].index(True), root)[1]


def test_all_tables_are_there_with_their_rows(made: Path, key: dict[str, Any]) -> None:
    assert {path.stem for path in made.glob("*.tsv")} == set(ROWS) == set(script.DATASETS) == set(key)
    assert {name: len(raw(made, name)) for name in ROWS} == ROWS
    for name, answers in key.items():
        assert set(answers) == {row["index"] for row in raw(made, name)}
        assert all(answer["right"] != answer["wrong"] for answer in answers.values())
    for name in ("AI2D_TEST", "ScienceQA_TEST"):
        assert {sum(bool(row[letter]) for letter in "ABCDE") for row in raw(made, name)} == {2, 3, 4, 5}
    words = {index: repr(answers["right"]) for index, answers in key["TextVQA_VAL"].items()}
    agreeing = {row["answer"].count(words[row["index"]]) for row in raw(made, "TextVQA_VAL")}
    assert agreeing == {10, 8, 6, 4}  # of ten, each of the nine others counts 1/3: four are enough
    assert [name for name in ROWS if "image_path" in raw(made, name)[0]] == ["AI2D_TEST", "MME"]


@pytest.mark.parametrize("name", ROWS)
def test_vlmevalkit_asks_every_row_with_its_picture(name: str, made: Path, dataset: Read) -> None:
    data, rows = dataset(name), raw(made, name)
    cells = {row["index"]: row["image"] for row in rows}
    assert any(len(cell) <= 64 for cell in cells.values())
    for place, row in zip(range(len(data)), rows, strict=True):
        path, text = prompt(data, place, made)
        held = cells.get(row["image"], row["image"])  # of a reference: what the row that it names holds
        assert row["question"] in text
        assert data.data.iloc[place]["image"] == held
        with Image.open(path) as shown, Image.open(io.BytesIO(base64.b64decode(held))) as meant:
            assert shown.size == meant.size == (32, 24)
            if path.endswith(".png"):  # not compressed a second time
                assert shown.convert("RGB").tobytes() == meant.convert("RGB").tobytes()
    repeated = Counter(Counter(cell for cell in cells.values() if len(cell) > 64).values())
    assert repeated[2] == (7 if name == "MME" else 0)  # there every other pair holds its picture twice


@pytest.mark.parametrize("name", MMBENCH)
def test_mmbench_has_circular_groups_and_the_real_abilities(name: str, made: Path, dataset: Read) -> None:
    from vlmeval.dataset.utils.multiple_choice import MMB_abbrs

    groups: dict[int, list[dict[str, str]]] = {}
    abilities: dict[str, set[str]] = {}
    for row in raw(made, name):
        groups.setdefault(int(row["index"]) % 1_000_000, []).append(row)
        abilities.setdefault(MMB_abbrs[row["l2-category"]], set()).add(row["category"])
        assert row["split"] == ("test" if "TEST" in name else "dev")
    assert Counter(map(len, groups.values())) == {4: 4 + 9, 3: 1 + 5, 2: 5}
    for first, group in groups.items():
        options = [[row[letter] for letter in "ABCD" if row[letter]] for row in group]
        assert [int(row["index"]) for row in group] == [first + turn * 1_000_000 for turn in range(len(options[0]))]
        assert [turned[0] for turned in options] == options[0]
        assert len({row[row["answer"]] for row in group}) == 1
        assert all(row["image"].isdecimal() for row in group[1:])
    assert abilities == {coarse: set(fine.split()) for coarse, fine in ABILITIES.items()}
    assert set(dataset(name).data["hint"].isna()) == {True, False}


def test_both_languages_ask_the_same_and_the_splits_share_no_index(made: Path) -> None:
    indices = {}
    for split in ("TEST", "DEV"):
        english, chinese = raw(made, f"MMBench_{split}_EN"), raw(made, f"MMBench_{split}_CN")
        for name in ("index", "image", "answer", "category"):
            assert [row[name] for row in english] == [row[name] for row in chinese]
        assert all(row["question"].isascii() for row in english)
        assert all(any("\u4e00" <= sign <= "\u9fff" for sign in row["question"]) for row in chinese)
        indices[split] = {row["index"] for row in english}
    assert not indices["TEST"] & indices["DEV"]  # VLMEvalKit keeps the pictures of both in one folder, by index


def test_26_options_and_numbers_in_a_column_with_gaps(made: Path, dataset: Read, key: dict[str, Any]) -> None:
    from vlmeval.smp import load

    class Stock(type(dataset("SEEDBench_IMG")).__base__):  # type: ignore[misc]
        def load_data(self, name: str) -> Any:
            return load(str(made / f"{name}.tsv"))

    with vlmeval_imports.environment(LMUData=str(made)):
        stock = Stock("SEEDBench_IMG")
    ours, theirs = (prompt_of(data, "Which number follows", made) for data in (dataset("SEEDBench_IMG"), stock))
    assert ours.count("\n") == theirs.count("\n") == 1 + 1 + 26 + 1  # question, heading, options, what to do
    assert all(f"\n{letter}\n" in ours for letter in ("D. 4", "E. 5", "Z. 26"))
    assert all(f"\n{letter}\n" in theirs for letter in ("D. 4", "E. 5.0", "Z. 26.0"))  # in D other rows have words
    assert key["SEEDBench_IMG"]["123"]["right"] == "Q"  # the 17th letter: A is 1
    assert load(str(made / "ScienceQA_TEST.tsv"))["E"].dtype == "float64"


def test_options_that_pandas_reads_as_missing_are_not_shown(made: Path, dataset: Read) -> None:
    for name in ("MMBench_TEST_EN", "SEEDBench_IMG", "AI2D_TEST", "ScienceQA_TEST"):
        row = next(row for row in raw(made, name) if row["question"] == "Which word names a colour?")
        assert (row["A"], row["B"], row["C"], row["D"]) == ("None", "red", "seven", "NA")
        text = prompt_of(dataset(name), "Which word names", made)
        assert "Options:\nB. red\nC. seven\nPlease select" in text


def test_quotes_tabs_and_newlines_arrive(made: Path, dataset: Read) -> None:
    data = dataset("MMBench_TEST_EN")
    assert '\nA. \'Go\'\nB. Say ""hi"", they say\nC. "Stop"\n' in prompt_of(data, "Which sign", made)
    text = prompt_of(data, "What does the table", made)
    assert 'Hint: Two lines:\n"the first", the second.\n' in text
    assert "\n\tapple\t3\n\tpear\t5\nOptions:\nA. apple\t3\nB. apple\t5\nC. pear\n3\nD. pear, 7\n" in text


def test_mme_has_14_subtasks_in_pairs(made: Path, dataset: Read) -> None:
    pairs: dict[tuple[str, str], list[str]] = {}
    for row in raw(made, "MME"):
        assert row["question"].endswith(" Please answer yes or no.")
        pairs.setdefault((row["category"], row["image_path"]), []).append(row["answer"])
    assert len(pairs) == len({subtask for subtask, _ in pairs}) == 14
    assert all(sorted(answers) == ["No", "Yes"] for answers in pairs.values())
    assert len(ask_all(BENCHMARKS["MME"], dataset("MME"), made, None)) == 28  # the project finds no subtask missing


def test_what_mathvista_reads_without_and_with_a_judge(dataset: Read, key: dict[str, Any]) -> None:
    from vlmeval.dataset.utils.mathvista import post_check

    seen: Counter[str] = Counter()
    for row in dataset("MathVista_MINI").data.to_dict("records"):
        answers = key["MathVista_MINI"][str(row["index"])]
        seen[f"{row['question_type']} {row['answer_type']}"] += 1
        read = post_check(row | {"prediction": answers["right"]}, prefetch=True)
        judged = post_check(row | {"prediction": "", "res": answers["right_value"]})
        assert not post_check(row | {"prediction": "", "res": answers["wrong_value"]})
        assert answers.get("never_right", False) == (row["answer_type"] == "list") == (judged is not True)
        # 0 counts as unread, and a sentence is none of the values: both go to the judge
        unread = row["answer_type"] == "list" or answers["right"] == "0" or "count" in answers["right"]
        assert bool(read) != unread
        if row["question_type"] == "multi_choice":
            assert row["answer_option"] == answers["right"]
            assert f"({row['answer_option']}) {row['answer']}" in row["question"]
    assert sorted(seen.items()) == [
        ("free_form float", 6), ("free_form integer", 9), ("free_form list", 3),
        ("multi_choice integer", 3), ("multi_choice text", 3),
    ]  # fmt: skip


def test_mathvista_and_mmvet_have_every_group_that_is_averaged(dataset: Read, tmp_path: Path) -> None:
    from vlmeval.dataset.utils.mathvista import MathVista_acc
    from vlmeval.dataset.utils.mmvet import MMVet_acc

    table = tmp_path / "judged.pkl"
    rows = dataset("MathVista_MINI").data
    rows.assign(prediction="", res=rows["answer_option"].fillna(rows["answer"]), log="Succeed").to_pickle(table)
    found = MathVista_acc(str(table)).set_index("Task&Skill")
    assert len(found) == 1 + 5 + 7  # overall, tasks, skills
    assert found.loc["Overall", "acc"] == pytest.approx(100 * 21 / 24)  # three lists
    rows = dataset("MMVet").data
    assert all(rows["answer"].str.contains(word).any() for word in ("<AND>", "<OR>"))
    rows.assign(prediction="", score=0.5).to_pickle(table)
    capabilities, mixtures = MMVet_acc(str(table))
    assert sorted(capabilities["Category"]) == ["Overall", "gen", "know", "math", "ocr", "rec", "spat"]
    assert set(capabilities["acc"]) == {50}
    assert len(mixtures) == 16 + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", CLOSED)
def test_right_answers_score_all_and_wrong_ones_nothing(
    name: str, made: Path, dataset: Read, key: dict[str, Any], tmp_path: Path
) -> None:
    asked = ask_all(benchmark_of(name), dataset(name), made, None)
    task = Task(benchmark_of(name), dataset(name), asked)
    for said, share in (("right", 1), ("wrong", 0)):
        given = [key[name][str(item.index)][said] for item in asked]
        entry = score(task, given, Place(tmp_path / said, "m", made, tmp_path / "log")).entry
        assert entry["overall"] == pytest.approx(share * (2800 if name == "MME" else 100))
        assert entry["parse_failures"] == 0
        if name in MMBENCH:
            assert entry["abilities"] == dict.fromkeys(ABILITIES, 100 * share)
            assert set(entry["categories"]) == set(" ".join(ABILITIES.values()).split())


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    script.make_benchmarks(tmp_path / "again")
    script.make_benchmarks(tmp_path / "other", seed=1)
    for name in [*(f"{name}.tsv" for name in ROWS), "key.json"]:
        first = (made / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == first
        assert (tmp_path / "other" / name).read_bytes() != first


def test_test_tables_without_answers(tmp_path: Path, key: dict[str, Any]) -> None:
    assert script.make_benchmarks(tmp_path / "made", test_answers=False) == key
    lacking = [name for name in ROWS if "answer" not in raw(tmp_path / "made", name)[0]]
    assert lacking == ["MMBench_TEST_EN", "MMBench_TEST_CN"]
    for name in ROWS:
        dataset = tables.build_dataset(BENCHMARKS[name], tmp_path / "made", tmp_path / "log")
        assert tables.has_answers(dataset) == (name not in lacking)


def test_a_folder_of_others_or_of_other_settings_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "MME.tsv").write_text("mine")
    with pytest.raises(OutputError, match="not made by moslora"):
        script.make_benchmarks(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["MME.tsv"]
    with pytest.raises(OutputError, match="questions was 24, is 30"):
        script.make_benchmarks(made, questions=30)
    with pytest.raises(UsageError, match="at least 20"):
        script.make_benchmarks(tmp_path / "few", questions=19)


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["x", "-o", str(tmp_path / "made"), "--no-test-answers", "--questions"]
    monkeypatch.setattr(sys, "argv", [*words, "29"])
    script.main()
    assert "MME                 56 rows" in capsys.readouterr().out  # two pairs of each subtask
    monkeypatch.setattr(sys, "argv", [*words, "5"])
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert "at least 20" in capsys.readouterr().err
