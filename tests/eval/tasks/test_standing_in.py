"""Which MMBench `--benchmarks paper` asks: v1.0 where it has answers, else V1.1, called by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from moslora_xtuner.eval.report import group_table, score_table
from moslora_xtuner.eval.results.manifest import Manifest
from moslora_xtuner.eval.results.scores import Run
from moslora_xtuner.eval.tasks import catalogue
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, GROUPS, STANDS_IN, STRICT, resolve
from moslora_xtuner.eval.tasks.standing_in import asked_for

OLD, NEW = "MMBench_TEST_EN", "MMBench_TEST_EN_V11"
ANSWERED, HELD_BACK = "index\tquestion\tanswer\n1\tQ?\tA\n", "index\tquestion\tanswer\n1\tQ?\t\n"
LACKING = "index\tquestion\n1\tQ?\n"


@pytest.mark.parametrize(
    ("old", "new", "download", "asked"),
    [
        (ANSWERED, ANSWERED, False, OLD),
        (ANSWERED, None, False, OLD),
        (LACKING, ANSWERED, False, NEW),
        (HELD_BACK, ANSWERED, False, NEW),
        (LACKING, HELD_BACK, False, OLD),  # neither can be scored: the paper's own, to be handed in
        (LACKING, None, False, OLD),
        (LACKING, None, True, NEW),
        (None, ANSWERED, False, NEW),
        (None, None, False, NEW),
        (None, None, True, NEW),
    ],
)
def test_the_one_that_can_be_scored(
    old: str | None, new: str | None, download: bool, asked: str, tmp_path: Path
) -> None:
    for name, text in ((OLD, old), (NEW, new)):
        if text is not None:
            (tmp_path / f"{name}.tsv").write_text(text)
    found = asked_for(["paper"], tmp_path, download)
    assert found[0] == asked
    assert found[2:] == list(GROUPS["paper"][2:])
    assert asked_for([OLD, STRICT], tmp_path, download) == [OLD, STRICT]
    assert [item.dataset for item in resolve([STRICT])] == list(GROUPS["paper"])


def run(*names: str) -> Run:
    entries = {name: {"overall": 40.0, "scale": 100.0, "judge": None} for name in names}
    return Run("m", Path("m"), entries, Manifest())


def test_the_table_calls_it_by_its_name_and_marks_the_mean() -> None:
    nine = [STANDS_IN.get(name, name) for name in GROUPS["paper"]]
    built = score_table.build([run(*nine)])
    assert built.datasets == tuple(nine)
    assert built.header(built.datasets)[1:3] == ["MMB-EN-V11", "MMB-CN-V11"]
    assert (built.header(built.datasets)[-1], built.means[0].value) == ("mean*", 40.0)
    assert built.notes[0].startswith("mean*: MMB-EN-V11 and MMB-CN-V11 are other splits than the paper's")
    assert score_table.groups_of([run(*nine)]) == ["paper"]  # not shown again among others


def test_the_papers_own_is_not_marked_and_keeps_its_place() -> None:
    built = score_table.build([run(*GROUPS["paper"]), run(*STANDS_IN.values())])
    assert built.datasets == GROUPS["paper"]
    assert built.header(built.datasets)[-1] == "mean"
    assert "missing MMB-EN, MMB-CN" in built.means[1].reason
    both = [run(*GROUPS["paper"]), run(*STANDS_IN.values())]
    assert score_table.groups_of(both) == ["paper", "other"]
    assert group_table.datasets_of(both, "other") == tuple(STANDS_IN.values())


def test_they_are_benchmarks_with_a_dev_set() -> None:
    for name in STANDS_IN.values():
        assert BENCHMARKS[name].circular
        assert BENCHMARKS[name].split == "test"
        assert catalogue.find(name.replace("_TEST_", "_DEV_")) is not None
