"""VLMEvalKit's own loop (asking, xlsx, scoring) on the same answers: it writes what the project's scoring does.

The first test's answers hold nothing that a spreadsheet spoils. The others show what it spoils in VLMEvalKit's loop and
not in the project's scoring, which reads the table from a pickle.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas
import pytest
from hand_scores import answer_all, read_table, says
from judge_server import Server, serving
from make_benchmarks_like import make_benchmarks
from pandas.testing import assert_frame_equal

from moslora_xtuner.errors import SetupError
from moslora_xtuner.eval.judges.asking import Asking
from moslora_xtuner.eval.judges.base import VerdictLog
from moslora_xtuner.eval.judges.openai_judge import Judge
from moslora_xtuner.eval.scoring.patches import judged_by, scratch_table
from moslora_xtuner.eval.scoring.score import Place, Scored, score
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, EXACT, GROUPS
from moslora_xtuner.eval.tasks.tables import build_dataset
from moslora_xtuner.eval.vlmeval_imports import captured, environment, import_datasets

NINE = GROUPS["paper"]
SEED = 5
Said = dict[str, str]
"""By index."""


def scored_here(name: str, root: Path, work: Path, said: Said, server: Server | None = None) -> Scored:
    """The project's own way: score() in the folder work/here."""
    benchmark, log = BENCHMARKS[name], work / "log"
    dataset = build_dataset(benchmark, root, log)
    asked = ask_all(benchmark, dataset, root, None)
    judge = (
        None if server is None else Judge("m", VerdictLog(work / "here.jsonl"), url=server.url, timeout=5, retries=1)
    )
    answers = [said[str(item.index)] for item in asked]
    place = Place(work / "here", "stub", root, log)
    return score(Task(benchmark, dataset, asked), answers, place, judge="m" if judge else EXACT, verdicts=judge)


def scored_there(
    name: str, root: Path, work: Path, said: Said, patch: pytest.MonkeyPatch, server: Server | None = None
) -> None:
    """VLMEvalKit's way, as its run.py goes: a model class asked row by row, and evaluate() on the xlsx in work/there.

    The dataset is the project's only in that it reads the TSV itself: the stock class downloads where the MD5 differs.
    """
    log = work / "log"
    dataset = build_dataset(BENCHMARKS[name], root, log)
    from vlmeval import run
    from vlmeval.config import supported_VLM
    from vlmeval.inference import infer_data_job
    from vlmeval.vlm.base import BaseModel

    class Stub(BaseModel):
        INTERLEAVE = False

        def use_custom_prompt(self, dataset: str) -> bool:
            return True

        def build_prompt(self, line: Any, dataset: str) -> list[dict[str, str]]:
            pictures = [{"type": "image", "value": path} for path in self.dump_image(line, dataset)]
            return [*pictures, {"type": "text", "value": f"{dataset} {line['index']}"}]

        def generate_inner(self, message: list[dict[str, str]], dataset: str | None = None) -> str:
            picture, text = message
            assert Path(picture["value"]).is_file()
            return said[text["value"].removeprefix(f"{dataset} ")]

    patch.setitem(supported_VLM, "stub", partial(Stub))
    judge = (
        None if server is None else Judge("m", VerdictLog(work / "there.jsonl"), url=server.url, timeout=5, retries=1)
    )
    words = ["run.py", "--data", name, "--model", "stub", "--judge", "m" if judge else EXACT]
    patch.setattr(sys, "argv", words)
    options = run.get_judge_kwargs(name, dataset.TYPE, run.parse_args())
    (work / "there").mkdir()
    settings = {"LMUData": str(root), "PRINT_VANILLA": "1", "PRED_FORMAT": "xlsx", "EVAL_FORMAT": "csv"}
    with (
        scratch_table(),
        captured(log),
        environment(**settings),
        judged_by(judge and Asking(judge)),
    ):
        infer_data_job("stub", work_dir=str(work / "there"), model_name="stub", dataset=dataset, api_nproc=1)
        dataset.evaluate(str(work / "there" / f"stub_{name}.xlsx"), **options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "LMUData"
    make_benchmarks(folder, seed=SEED)
    return folder


@pytest.fixture(scope="module")
def answers(made: Path) -> Callable[[str], Any]:
    key = json.loads((made / "key.json").read_text(encoding="utf-8"))
    return cache(lambda name: answer_all(name, read_table(made / f"{name}.tsv"), key[name], SEED, tame=True))


@pytest.fixture
def server(answers: Callable[[str], Any]) -> Iterator[Server]:
    with serving() as running:
        running.says = says(answer for name in NINE for answer in answers(name).values())
        yield running


def test_a_vlmevalkit_that_lacks_what_is_relied_on_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = import_datasets(tmp_path / "log")
    from vlmeval.dataset.utils import yorn

    monkeypatch.delattr(yorn, "MME_rating")
    monkeypatch.delattr(datasets, "MMVet")
    said = r"lacks what is relied on here: vlmeval\.dataset\.MMVet, vlmeval\.dataset\.utils\.yorn\.MME_rating\. Install"
    with pytest.raises(SetupError, match=said):
        import_datasets(tmp_path / "log")


def read(path: Path) -> Any:
    if path.suffix == ".pkl":
        return pandas.read_pickle(path)
    return pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_excel(path)


def formulas_as_read(frame: Any) -> Any:
    """VLMEvalKit's own workbooks have formulas where an option begins with "=": they read as 0."""
    return frame.map(lambda cell: 0 if isinstance(cell, str) and cell.startswith("=") else cell)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "judged"),
    [(name, False) for name in NINE if not BENCHMARKS[name].needs_judge]
    + [(name, True) for name in NINE if BENCHMARKS[name].judge is not None],
)
def test_the_same_files_with_the_same_content(
    name: str,
    judged: bool,
    made: Path,
    answers: Callable[[str], Any],
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {index: answer.text for index, answer in answers(name).items()}
    asks = server if judged else None
    scored_here(name, made, tmp_path, said, asks)
    scored_there(name, made, tmp_path, said, monkeypatch, asks)
    here, there = tmp_path / "here", tmp_path / "there"
    # the table that is scored, as the project keeps it: a cell of an xlsx forgets whether "7" was a text
    assert names(here) - names(there) == {f"stub_{name}.pkl"}
    assert names(there) <= names(here)
    for file in names(there):
        ours, theirs = read(here / file), read(there / file)
        if not isinstance(theirs, pandas.DataFrame):
            assert ours == theirs, file
            continue
        if file.endswith(".xlsx"):
            ours = formulas_as_read(ours)
        assert_frame_equal(ours, theirs, check_exact=True, obj=file)


def short_answers(root: Path, given: list[str]) -> None:
    """A table of open questions, to each of which ten people gave the same answer."""
    picture = pandas.read_csv(root.parent / "lmu.tsv", sep="\t")["image"][0]
    rows = [
        {"index": place, "image": picture, "question": "What?", "answer": str([text] * 10)}
        for place, text in enumerate(given)
    ]
    root.mkdir()
    pandas.DataFrame(rows).to_csv(root / "DigitsTextVQA.tsv", sep="\t", index=False)


def both_hits(
    name: str, root: Path, work: Path, said: Said, patch: pytest.MonkeyPatch, server: Server | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """By index the score of each answer, here and in VLMEvalKit's own loop."""
    here = scored_here(name, root, work, said, server).hits
    scored_there(name, root, work, said, patch, server)
    open_answers = BENCHMARKS[name].kind == "vqa"
    end = "results" if open_answers else f"{'m' if server else EXACT}_result"
    rows = read(work / "there" / f"stub_{name}_{end}.xlsx").to_dict("records")
    return here, {str(row["index"]): float(row["eval_score" if open_answers else "hit"]) for row in rows}


@pytest.mark.parametrize(
    ("people", "model", "lost"),
    [
        (["7", "12", "3.5", "8"], ["7", "12", "3.5", ""], {"0", "1"}),
        (["None", "NA", "null", "n/a", "stop"], ["None", "NA", "null", "n/a", "stop"], {"0", "1", "2", "3"}),
        (["=2+2", "+4", "@4", "stop"], ["=2+2", "+4", "@4", "stop"], {"0"}),
        (["007", "7", "8"], ["007", "7", "8"], {"0"}),
        (["stop", "go"], ["stop\r", "go"], {"0"}),
    ],
    ids=[
        "numbers and an empty answer become decimals",
        "words for nothing",
        "a formula is 0",
        "zeros in front",
        "stop_x000D_",
    ],
)
def test_short_answers_that_an_xlsx_spoils(
    people: list[str],
    model: list[str],
    lost: set[str],
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "lmu.tsv").write_bytes((data_root / "DigitsTextVQA.tsv").read_bytes())
    root = tmp_path / "root"
    short_answers(root, people)
    said = {str(place): text for place, text in enumerate(model)}
    here, there = both_hits("DigitsTextVQA", root, tmp_path, said, monkeypatch)
    right = {str(place): float(text != "") for place, text in enumerate(model)}
    assert here == right
    assert there == {index: hit * (index not in lost) for index, hit in right.items()}


def test_half_of_a_surrogate_pair_stops_vlmevalkit(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"0": "7", "1": "12\ud800", "2": "8", "3": "left"}
    hits = scored_here("DigitsTextVQA", data_root, tmp_path, said).hits
    assert hits == {"0": 1.0, "1": 0.0, "2": 1.0, "3": 1.0}
    with pytest.raises(ValueError, match="Excel file format cannot be determined"):  # it has left half an xlsx
        scored_there("DigitsTextVQA", data_root, tmp_path, said, monkeypatch)


@pytest.mark.parametrize(("name", "letter", "option"), [("SEEDBench_IMG", "D", "=2+2"), ("ScienceQA_TEST", "E", "6")])
def test_options_that_an_xlsx_spoils(
    name: str, letter: str, option: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the option =2+2 is 0, and 6 is 6.0 in a column of numbers and gaps: an answer by its text is not read."""
    root = tmp_path / "root"
    root.mkdir()
    rows = read_table(made / f"{name}.tsv")
    chosen = next(row for row in rows if row[letter] == option)
    chosen["answer"] = letter
    pandas.DataFrame(rows).to_csv(root / f"{name}.tsv", sep="\t", index=False)
    said = {row["index"]: row["answer"] for row in rows} | {chosen["index"]: option}
    here, there = both_hits(name, root, tmp_path, said, monkeypatch)
    assert here == dict.fromkeys(said, 1.0)
    assert there == here | {chosen["index"]: 0.0}


def test_an_empty_answer_is_nan_in_vlmevalkits_words_and_scores_the_same(
    made: Path, answers: Callable[[str], Any], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "MMBench_TEST_EN"
    said = {index: answer.text for index, answer in answers(name).items()}
    said |= dict.fromkeys(list(said)[::7], "")
    scored_here(name, made, tmp_path, said, server)
    scored_there(name, made, tmp_path, said, monkeypatch, server)
    here, there = (read(tmp_path / side / f"stub_{name}_m_result.xlsx") for side in ("here", "there"))
    differ = here["log"] != there["log"]
    assert differ.any()
    assert (here["log"][differ].str.replace("Prediction is ;", "Prediction is nan;") == there["log"][differ]).all()
    assert_frame_equal(formulas_as_read(here).drop(columns="log"), there.drop(columns="log"))
    for end in ("acc.csv", "acc_all.csv"):
        assert_frame_equal(*(read(tmp_path / side / f"stub_{name}_{end}") for side in ("here", "there")))


def test_an_unreadable_answer_is_taken_for_option_z_by_both(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VLMEvalKit's word for no option is Z: right where a question has 26 and Z is right. None of the nine has 26."""
    root = tmp_path / "root"
    root.mkdir()
    rows = read_table(made / "SEEDBench_IMG.tsv")
    rows[-1]["answer"] = "Z"
    pandas.DataFrame(rows).to_csv(root / "SEEDBench_IMG.tsv", sep="\t", index=False)
    here, there = both_hits("SEEDBench_IMG", root, tmp_path, {row["index"]: "hm" for row in rows}, monkeypatch)
    assert here == there == {row["index"]: float(row["answer"] == "Z") for row in rows}
