"""lm-evaluation-harness beside our scores: asked about the loaded model, kept, told apart, and never among them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import lm_eval_standin
import pytest
import standins
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from moslora_xtuner.cli import app
from moslora_xtuner.data.worlds.writing import write_worlds
from moslora_xtuner.errors import DataError, EvaluationError, SetupError, UsageError
from moslora_xtuner.eval import harness
from moslora_xtuner.eval.evaluator import check, evaluate
from moslora_xtuner.eval.report import harness_table
from moslora_xtuner.eval.report.page import write_report
from moslora_xtuner.eval.report.score_table import table
from moslora_xtuner.eval.results import harness_scores, scores
from moslora_xtuner.eval.settings import Settings


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standins.make_llama3(tmp_path_factory.mktemp("llm") / "base")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the eight tables, and a small world's."""
    made = write_worlds(tmp_path_factory.mktemp("worlds") / "data", records=8, test_questions=6) / "LMUData"
    for name in ("boolq", "piqa"):
        (made / f"{name}.tsv").write_bytes((made / f"SmallWorlds_{name}.tsv").read_bytes())
    return made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> lm_eval_standin.Calls:
    return lm_eval_standin.install(monkeypatch)


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    lm_eval_standin.write_task(tmp_path / "kit", "boolq", [0, 1, 0, 1, 1])
    lm_eval_standin.write_task(tmp_path / "kit", "SmallWorlds_piqa", [0, 1])
    return lm_eval_standin.write_task(tmp_path / "kit", "piqa", [0, 0, 0, 1])


def settings(tasks: Path | None, **more: Any) -> Settings:
    return Settings(**{"batch_size": 8, "quiet": True, "kit": True, "kit_tasks": tasks, **more})


def test_it_is_asked_about_the_loaded_model_and_kept_apart(
    llama: Path, data: Path, tasks: Path, tmp_path: Path, calls: lm_eval_standin.Calls
) -> None:
    names = ["boolq_greedy", "piqa_greedy"]
    (plain,) = evaluate([llama], names, data, tmp_path / "plain", Settings(batch_size=8, quiet=True))
    (run,) = evaluate([llama], names, data, tmp_path / "out", settings(tasks))
    assert [call["task"] for call in calls] == ["boolq", "piqa"]
    assert isinstance(calls[0]["model"].model, LlamaForCausalLM)
    assert not calls[0]["model"].model.training
    assert calls[0]["model"] is calls[1]["model"]  # loaded once
    assert calls[0]["log_samples"] is False
    found = harness_scores.read(run, scores.read(run).manifest.model_sha256)
    assert {name: (s.task, s.metrics["acc"], s.questions) for name, s in found.items()} == {
        "boolq": ("boolq", 0.4, 5),
        "piqa": ("piqa", 0.75, 4),
    }
    assert found["boolq"].metrics == {"acc": 0.4, "acc_stderr": 0.1, "acc_norm": 0.4}  # "N/A" is no number
    assert (found["boolq"].data, found["boolq"].version, found["boolq"].limit) == ("json, test", "0.4.13", None)
    # Our scores are what they would be without it.
    assert scores.read(run).benchmarks == scores.read(plain).benchmarks
    assert not (plain / "lm_eval.json").exists()
    assert "Running loglikelihood" in (run / "lm_eval.log").read_text()


def test_what_is_there_is_not_asked_again(
    llama: Path, data: Path, tasks: Path, tmp_path: Path, calls: lm_eval_standin.Calls
) -> None:
    (run,) = evaluate([llama], ["boolq_greedy"], data, tmp_path / "out", settings(tasks))
    evaluate([llama], ["boolq_greedy", "piqa_greedy"], data, tmp_path / "out", settings(tasks))
    assert [call["task"] for call in calls] == ["boolq", "piqa"]
    evaluate([llama], ["boolq_greedy"], data, tmp_path / "out", settings(tasks, limit=3))
    assert [(call["task"], call["limit"]) for call in calls[2:]] == [("boolq", 3)]
    lm_eval_standin.write_task(tasks, "piqa", [1, 1, 1, 1])
    evaluate([llama], ["piqa_greedy"], data, tmp_path / "out", settings(tasks))
    assert harness_scores.read(run, scores.read(run).manifest.model_sha256)["piqa"].metrics["acc"] == 0
    calls.broken = "piqa"
    with pytest.raises(EvaluationError, match="lm-evaluation-harness's piqa"):
        evaluate([llama], ["piqa_greedy"], data, tmp_path / "out", settings(tasks, limit=1))
    assert "piqa" not in harness_scores.read(run, scores.read(run).manifest.model_sha256)  # the old one is no answer
    assert harness_scores.read(run, "of another model") == {}
    (run / "lm_eval.json").write_text("{")
    with pytest.raises(DataError, match=r"lm_eval.json cannot be read"):
        table([run])


def test_a_small_world_has_a_task_of_its_own_name(
    llama: Path, data: Path, tasks: Path, tmp_path: Path, calls: lm_eval_standin.Calls
) -> None:
    evaluate([llama], ["SmallWorlds_piqa", "piqa", "piqa_greedy"], data, tmp_path / "out", settings(tasks))
    assert [call["task"] for call in calls] == ["SmallWorlds_piqa", "piqa"]
    with pytest.raises(UsageError, match="no task for SmallWorlds_boolq: put one of that name into --kit-tasks"):
        evaluate([llama], ["SmallWorlds_boolq"], data, tmp_path / "out", settings(tasks))


def test_it_stands_in_a_table_of_its_own(
    llama: Path, data: Path, tasks: Path, tmp_path: Path, calls: lm_eval_standin.Calls
) -> None:
    (run,) = evaluate([llama], ["boolq", "piqa"], data, tmp_path / "out", settings(tasks), names=["tuned"])
    bare = shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("lm_eval.json"))
    text, plain = table([run], "markdown"), table([bare], "markdown")
    scored, _, beside = text.partition(f"**{harness_table.TITLE}**")
    assert scored.strip() == plain.strip()  # Table 4's columns have nothing of it
    assert "40.0 (10.0) | 40.0 | boolq | 5 | json, test |" in beside
    assert "not comparable with the scores, nor with the paper's Table 4" in beside
    assert table([run], "csv") == table([bare], "csv")
    told = json.loads(table([run], "json"))
    rows = told.pop("lm_evaluation_harness")["rows"]
    assert told == json.loads(table([bare], "json"))
    assert [(row["benchmark"], row["metrics"]["acc"]) for row in rows] == [("piqa", 75), ("boolq", 40)]
    page = write_report([run], tmp_path / "report").read_text()
    assert f'<h2 id="harness">{harness_table.TITLE}</h2>' in page
    assert harness_table.TITLE in (tmp_path / "report" / "scores.md").read_text()
    assert 'id="harness"' not in write_report([bare], tmp_path / "bare-report").read_text()


def test_a_task_that_fails_costs_itself(
    llama: Path, data: Path, tasks: Path, tmp_path: Path, calls: lm_eval_standin.Calls
) -> None:
    calls.broken = "boolq"
    with pytest.raises(EvaluationError, match="lm-evaluation-harness's boolq: RuntimeError: out of all order") as told:
        evaluate([llama], ["boolq_greedy", "piqa_greedy"], data, tmp_path / "out", settings(tasks))
    assert "\n" not in str(told.value)
    run = tmp_path / "out" / "base"
    assert set(harness_scores.read(run, scores.read(run).manifest.model_sha256)) == {"piqa"}
    assert set(scores.read(run).benchmarks) == {"boolq_greedy", "piqa_greedy"}


def test_what_is_missing_is_said_before_anything_is_asked(
    llama: Path, data: Path, tasks: Path, tmp_path: Path, calls: lm_eval_standin.Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, own = tmp_path / "out", tmp_path / "own.tsv"
    own.write_text("index\tquestion\tanswer\n1\tQ\tA\n")
    with pytest.raises(DataError, match=r"boolq, piqa \(ConnectionError: .*\): add --download, or --kit-tasks"):
        evaluate([llama], ["boolq", "piqa"], data, out, settings(None))
    with pytest.raises(DataError, match="the data of lm-evaluation-harness's tasks is not here"):
        check(["boolq"], data, settings(None), log=tmp_path / "log")
    with pytest.raises(UsageError, match="none of them was chosen; VLMEvalKit's own program is"):
        evaluate([llama], [f"{own}:short-answer"], None, out, settings(tasks))
    with pytest.raises(UsageError, match="nowhere is no folder: --kit-tasks"):
        evaluate([llama], ["boolq"], data, out, settings(tmp_path / "nowhere"))
    monkeypatch.delattr(lm_eval_standin.TaskManager, "load")
    with pytest.raises(SetupError, match=r"0.4.13 is too old"):
        evaluate([llama], ["boolq"], data, out, settings(tasks))
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(SetupError, match=r"is not installed \(.*\): pip install lm-eval==0.4.13"):
        evaluate([llama], ["boolq"], data, out, settings(tasks))
    assert not out.exists()
    assert not calls


def test_on_the_command_line(
    llama: Path, data: Path, tasks: Path, tmp_path: Path, calls: lm_eval_standin.Calls
) -> None:
    words = ["eval", str(llama), "--benchmarks", "boolq_greedy", "--data-root", str(data), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--kit", "--kit-tasks", str(tasks)])
    assert done.exit_code == 0, done.output
    assert harness_table.TITLE in done.stdout
    assert "40.0 (10.0)" in done.stdout
    refused = CliRunner().invoke(app, [*words, "--kit-tasks", str(tasks)])
    assert isinstance(refused.exception, UsageError)
    assert "is for --kit" in str(refused.exception)


def test_without_download_the_hub_is_not_asked() -> None:
    import datasets.config
    import huggingface_hub.constants

    before = huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    with harness._hub(download=False):
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        assert datasets.config.HF_HUB_OFFLINE
    assert before == (huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)
    with harness._hub(download=True):
        assert before == (huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE)
