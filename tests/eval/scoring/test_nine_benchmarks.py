"""All nine benchmarks, answered by a model with a known key: every score is the one worked out by hand.

VLMEvalKit rounds none of its files, so 1e-9 is only for the order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hand_scores import answer_all, hand_scores, read_table, says, shown
from judge_server import Server, serving
from make_benchmarks_like import make_benchmarks

from moslora_xtuner.eval.judges.base import VerdictLog
from moslora_xtuner.eval.judges.openai_judge import Judge
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.scoring.score import Place, Scored, score
from moslora_xtuner.eval.tasks import tables as task_tables
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, EXACT, GROUPS

NINE = GROUPS["paper"]
ONE_WAY = {False: ("MathVista_MINI", "MMVet"), True: ("TextVQA_VAL",)}
"""Those without a score under exact matching, and that which asks no judge."""
SEEDS = (0, 1, 2)
ROUGH = 2
"""The seed whose tables are harder to read."""


class Tables:
    """The tables of a seed, their rows, key and answers, and the datasets that are read from them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder / "LMUData", seed
        self.key: dict[str, Any] = make_benchmarks(self.folder, 20 + 10 * seed, seed, rough=seed == ROUGH)
        self.rows = {name: read_table(self.folder / f"{name}.tsv") for name in NINE}
        self.answers = {name: answer_all(name, self.rows[name], self.key[name], seed) for name in NINE}
        self.dataset = cache(lambda name: task_tables.build_dataset(BENCHMARKS[name], self.folder, folder / "log"))

    def hand(self, name: str, judged: bool) -> dict[str, Any]:
        return hand_scores(name, self.rows[name], self.key[name], self.answers[name], judged)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return cache(lambda seed: Tables(tmp_path_factory.mktemp("nine"), seed))


@pytest.fixture(scope="module")
def server(tables: Any) -> Iterator[Server]:
    with serving() as running:
        running.says = says(
            answer for seed in SEEDS for given in tables(seed).answers.values() for answer in given.values()
        )
        yield running


def ours(tables: Tables, name: str, work: Path, server: Server | None, limit: int | None = None) -> Scored:
    """What the project makes of the answers; exact matching where there is no server."""
    benchmark = BENCHMARKS[name]
    dataset = tables.dataset(name)
    asked = ask_all(benchmark, dataset, tables.folder, limit)
    judge = (
        None
        if server is None
        else Judge("m", VerdictLog(work / "verdicts.jsonl"), url=server.url, timeout=5, retries=1)
    )
    said = [tables.answers[name][str(item.index)].text for item in asked]
    place = Place(work / "vlmeval", "stub", tables.folder, work / "log")
    return score(Task(benchmark, dataset, asked), said, place, judge=EXACT if judge is None else "m", verdicts=judge)


def flat(scores: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested scores as one level: abilities/AR. Of what nobody has said -1, as `pytest.approx` knows no None."""
    found: dict[str, Any] = {}
    for name, value in scores.items():
        found |= (
            flat(value, f"{prefix}{name}/")
            if isinstance(value, dict)
            else {prefix + name: -1.0 if value is None else value}
        )
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("name", "judged"), [(name, judged) for name in NINE for judged in (False, True) if name not in ONE_WAY[judged]]
)
def test_every_score_is_the_one_worked_out_by_hand(
    name: str, judged: bool, seed: int, tables: Any, server: Server, tmp_path: Path
) -> None:
    hand = tables(seed).hand(name, judged)
    found = ours(tables(seed), name, tmp_path, server if judged else None)
    entry = found.entry | {"hits": found.hits}
    entry["outcomes"] = {
        item["unit"]: {part: item[part] for part in item if part == "vanilla"} | {item["ability"]: item["score"]}
        for item in found.outcomes
    }
    if "of_100" in hand:
        entry["of_100"] = Run("stub", tmp_path, {name: found.entry}).normalised(name)
    assert flat({part: entry[part] for part in hand}) == pytest.approx(flat(hand), rel=1e-9)
    assert entry["questions"] == len(tables(seed).rows[name])


@pytest.mark.parametrize("name", NINE)
def test_a_limit_of_one_gives_a_score(name: str, tables: Any, server: Server, tmp_path: Path) -> None:
    """MM-Vet has no question of five of its six capabilities then, MME one of its 14 subtasks."""
    judged = BENCHMARKS[name].needs_judge
    found = ours(tables(0), name, tmp_path, server if judged else None, limit=1)
    assert found.entry["units"] == 1
    assert 0 <= found.entry["overall"] <= found.entry["scale"]
    assert found.entry["scale"] == (200 if name == "MME" else 100)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_models_answers_are_of_every_kind(seed: int, tables: Any) -> None:
    """Else the test above would say little: some right and some wrong, read by exact matching, a judge or nobody."""
    for name in NINE:
        assert len({answer.text for answer in tables(seed).answers[name].values()}) > 5
        exact, judged = (tables(seed).hand(name, judge)["overall"] for judge in (False, True))
        assert 0 < exact < BENCHMARKS[name].scale
        assert exact < judged < BENCHMARKS[name].scale or name in ("TextVQA_VAL", "MMVet")
    everything = [answer for given in tables(seed).answers.values() for answer in given.values()]
    assert any(answer.text == "" for answer in everything)
    kinds = {(answer.choice, answer.plain) for answer in everything}
    assert kinds >= {(choice, plain) for choice in ("right", "wrong") for plain in (False, True)} | {("unread", False)}


def test_nothing_is_left_out(tables: Any) -> None:
    """The names of the papers are all among the scores that are compared."""
    hand = {name: tables(0).hand(name, True) for name in NINE}
    for name in ("MMBench_TEST_EN", "MMBench_TEST_CN"):
        assert [len(hand[name][part]) for part in ("abilities", "categories")] == [6, 20]
    counts = {name: len(scores["abilities"]) for name, scores in hand.items() if "MMBench" not in name}
    assert counts == {
        "SEEDBench_IMG": 9, "AI2D_TEST": 16, "ScienceQA_TEST": 11, "TextVQA_VAL": 0, "MathVista_MINI": 5 + 7,
        "MMVet": 6, "MME": 14,
    }  # fmt: skip
    assert max(len(shown(row)) for row in tables(0).rows["SEEDBench_IMG"]) == 26
    rough = tables(ROUGH).rows
    assert all(any(row["answer"] == "" for row in rough[name]) for name in NINE if name != "MMVet")
    assert "image" not in rough["AI2D_TEST"][0]
    assert all(row["index"].startswith("q") for row in rough["ScienceQA_TEST"])
    assert len(rough["ScienceQA_TEST"]) == 40 - 1  # VLMEvalKit does not ask about a picture that is missing
