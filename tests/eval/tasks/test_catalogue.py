"""What VLMEvalKit knows, and further datasets scored here against values worked out by hand."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pandas
import pytest

from moslora_xtuner.errors import EvaluationError
from moslora_xtuner.eval.scoring.score import Place, Scored, score
from moslora_xtuner.eval.tasks import tables
from moslora_xtuner.eval.tasks.catalogue import (
    CIRCULAR_CN,
    PLAIN,
    SHORT,
    Known,
    by_name,
    find,
    generic,
    known,
    listing,
)
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, GROUPS

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Known]:
    return known(tmp_path_factory.mktemp("known") / "log")


@pytest.fixture(scope="module")
def image() -> str:
    return base64.b64encode(b"a picture that nobody looks at, but longer than an index may be" * 2).decode()


def run(dataset: str, class_name: str, rows: Rows, answers: list[str], work: Path, image: str) -> Scored:
    benchmark = find(dataset)
    assert benchmark is not None
    assert benchmark.vlmeval_class == class_name
    frame = pandas.DataFrame([{"image": image} | row for row in rows])
    frame.to_csv(work / f"{dataset}.tsv", sep="\t", index=False)
    log = work / "log"
    made = tables.build_dataset(benchmark, work, log)
    asked = ask_all(benchmark, made, work, None)
    return score(Task(benchmark, made, asked), answers, Place(work / "vlmeval", "m", work, log))


def choice(index: int, answer: str, options: str = "one two three four", **more: Any) -> dict[str, Any]:
    texts = dict(zip("ABCD", options.split(), strict=False))
    return {"index": index, "question": f"Which, {index}?", "answer": answer} | texts | more


def circular(index: int, answer: str, **more: Any) -> Rows:
    """A question of four options in its four rotations; right is what `answer` names in the first."""
    words, rows = ["one", "two", "three", "four"], []
    for turn in range(4):
        letter = "ABCD"[("ABCD".index(answer) - turn) % 4]
        turned = " ".join(words[turn:] + words[:turn])
        rows.append(choice(index + turn * 1_000_000, letter, turned, **more))
    return rows


def test_mmstar(tmp_path: Path, image: str) -> None:
    rows = [
        choice(0, "A", category="coarse perception", **{"l2-category": "image topic"}),
        choice(1, "B", category="coarse perception", **{"l2-category": "image topic"}),
        choice(2, "C", category="math", **{"l2-category": "geometry"}),
        choice(3, "D", category="math", **{"l2-category": "geometry"}),
        choice(4, "A", category="math", **{"l2-category": "numeric"}),
    ]
    found = run("MMStar", "ImageMCQDataset", rows, ["A", "B.", "The answer is C", "A", "no idea"], tmp_path, image)
    assert found.entry["overall"] == pytest.approx(60)
    assert found.entry["abilities"] == {"geometry": 50, "image topic": 100, "numeric": 0}
    assert found.entry["categories"] == pytest.approx({"coarse perception": 100, "math": 100 / 3})
    assert (found.entry["parse_failures"], found.entry["units"]) == (1, 5)
    assert found.hits == {"0": 1, "1": 1, "2": 1, "3": 0, "4": 0}
    assert found.entry["chance"]["overall"] == pytest.approx(25)


@pytest.mark.parametrize(
    ("dataset", "split"),
    [("MMBench_DEV_EN_V11", "dev"), ("MMBench_DEV_CN_V11", "dev"), ("MMBench_TEST_EN_V11", "test"), ("CCBench", None)],
)
def test_the_circular_rule(dataset: str, split: str | None, tmp_path: Path, image: str) -> None:
    more = {} if split is None else {"split": split}
    rows = circular(7, "A", category="x", **more) + circular(8, "B", category="x", **more)
    rows += circular(9, "C", category="y", **more)
    answers = [str(row["answer"]) for row in rows]
    answers[3] = "A"  # question 7 is wrong in its last rotation (right is B), 8 in none, 9 in its first
    answers[8] = "D"
    found = run(dataset, "ImageMCQDataset", rows, answers, tmp_path, image)
    assert found.entry["overall"] == pytest.approx(100 / 3)
    assert found.entry["vanilla"]["overall"] == pytest.approx(200 / 3)
    assert found.entry["abilities"] == {"x": 50, "y": 0}
    assert {row["unit"]: row["score"] for row in found.outcomes} == {"7": 0, "8": 1, "9": 0}
    assert (found.entry["questions"], found.entry["units"], found.entry["unit"]) == (12, 3, "circular group")
    assert found.entry["chance"]["overall"] == pytest.approx(100 * 0.25**4)


def test_a_table_of_two_splits_is_refused(tmp_path: Path, image: str) -> None:
    rows = circular(1, "A", split="dev") + circular(2, "B", split="test")
    answers = [str(row["answer"]) for row in rows]
    with pytest.raises(EvaluationError, match="no one row for split None among"):
        run("CCBench", "ImageMCQDataset", rows, answers, tmp_path, image)


def words(*given: tuple[str, str]) -> tuple[Rows, list[str]]:
    rows = [{"index": i, "question": f"What, {i}?", "answer": right} for i, (right, _) in enumerate(given)]
    return rows, [answer for _, answer in given]


def test_chartqa_allows_five_per_cent(tmp_path: Path, image: str) -> None:
    # 5 % of 200 is 10; a per cent sign counts; a text must be equal but for its case
    rows, answers = words(("200", "210"), ("200", "211"), ("Yes", "yes"), ("14%", "0.14"), ("blue", "dark blue"))
    for place, row in enumerate(rows):
        row["split"] = "test_human" if place < 2 else "test_augmented"
    found = run("ChartQA_TEST", "ImageVQADataset", rows, answers, tmp_path, image)
    assert found.entry["overall"] == pytest.approx(60)
    assert found.hits == {"0": 1, "1": 0, "2": 1, "3": 1, "4": 0}
    assert (found.entry["units"], found.entry["judge"]) == (5, None)


@pytest.mark.parametrize("dataset", ["OCRVQA_TESTCORE", "OCRVQA_TEST", "GQA_TestDev_Balanced"])
def test_equal_words(dataset: str, tmp_path: Path, image: str) -> None:
    rows, answers = words(("Mark Twain", " mark twain "), ("7", "7"), ("7", "7.0"), ("no", "no."))
    found = run(dataset, "ImageVQADataset", rows, answers, tmp_path, image)
    assert found.entry["overall"] == pytest.approx(50)
    assert found.hits == {"0": 1, "1": 1, "2": 0, "3": 0}


def test_every_claim_is_of_a_class_that_vlmevalkit_gives_it(found: list[Known]) -> None:
    owners = {item.dataset: item for item in found}
    assert not set(BENCHMARKS) & set(CIRCULAR_CN + PLAIN + SHORT)
    for name in CIRCULAR_CN + PLAIN + SHORT:
        assert owners[name].how == "scored here, generic"
        benchmark = by_name(name)
        assert benchmark is not None
        assert benchmark.vlmeval_class == owners[name].class_name
        assert (benchmark.dataset, benchmark.group) == (name, "other")
    assert {item.dataset for item in found if item.how == "scored here"} == set(BENCHMARKS)
    assert sum(item.how == "scored here, generic" for item in found) == 9


def test_vlmevalkit_scores_exactly_these_in_circles(found: list[Known]) -> None:
    from vlmeval.smp import listinstr

    for item in found:
        benchmark = generic(item.dataset, item.class_name)
        if benchmark is not None and benchmark.kind == "mcq":
            # ImageMCQDataset.evaluate_heuristic
            assert benchmark.circular is listinstr(["mmbench", "ccbench", "circular", "mmcr"], item.dataset.lower())


@pytest.mark.parametrize(
    ("dataset", "class_name"),
    [
        ("MMT-Bench_VAL", "ImageMCQDataset"),
        ("MMSci_DEV_MCQ", "ImageMCQDataset"),
        ("MMVP", "ImageMCQDataset"),
        ("BLINK", "ImageMCQDataset"),
        ("MMBench", "ImageMCQDataset"),
        ("MMMU_DEV_VAL", "MMMUDataset"),
        ("DocVQA_VAL", "ImageVQADataset"),
        ("InfoVQA_VAL", "ImageVQADataset"),
        ("MMStar", "ImageVQADataset"),
        ("POPE", "ImageYORNDataset"),
        ("nothing", "ImageMCQDataset"),
    ],
)
def test_what_is_not_claimed(dataset: str, class_name: str) -> None:
    assert generic(dataset, class_name) is None
    assert by_name("nothing") is None


def test_the_list_in_order_with_the_tables_that_are_there(found: list[Known], tmp_path: Path) -> None:
    (tmp_path / "MMStar.tsv").write_text("")
    (tmp_path / "POPE.tsv").mkdir()
    table, legend = listing(found, tmp_path).split("\n\n")
    lines = table.splitlines()
    assert lines[0].split() == ["dataset", "class", "how", "judge", "TSV"]
    assert len(lines) == len(found) + 1 > 400
    by_name = {line[1:].split()[0]: line for line in lines}
    assert by_name["MMStar"].split() == [
        "MMStar",
        "ImageMCQDataset",
        "scored",
        "here,",
        "generic",
        "gpt-4o-mini",
        "yes",
    ]
    assert by_name["POPE"].split() == ["POPE", "ImageYORNDataset", "run.py", "only", "gpt-4o-mini", "-"]
    assert by_name["MMMB"].split()[1] == "ConcatDataset"
    assert by_name["MathVista_MINI"].split() == [
        "*", "MathVista_MINI", "MathVista", "scored", "here", "gpt-4o-mini,", "needed", "-"
    ]  # fmt: skip
    assert by_name["TextVQA_VAL"].split()[-2:] == ["-", "-"]
    assert by_name["LLaVABench"].split()[-2] == "gpt-4-turbo"  # by run.py alone
    assert {name for name, line in by_name.items() if line.startswith("*")} == set(GROUPS["paper"])
    assert all(f"\n{word}:" in f"\n{legend}" for word in ("how", "judge", "TSV"))
    assert legend.startswith("*")
    assert not any(name.startswith("Video-MME") for name in by_name)
    hows = [item.how for item in found]
    assert hows == sorted(hows, key=["scored here", "scored here, generic", "run.py only"].index)
    assert not any(line.endswith("yes") for line in listing(found).splitlines())
