"""scripts/reproduce_table4.sh, the whole way on a small stand-in: two methods, two seeds, a part, an interruption."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import standins
from places import ROOT

from moslora_xtuner.eval.tasks.registry import GROUPS

SCRIPT = ROOT / "scripts" / "reproduce_table4.sh"
RECORDS, MICRO_BATCH = 64, 4
CHANGES = {
    "train_cfg.max_epochs": 1,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "param_scheduler.warmup_steps": 1,
    "default_hooks.checkpoint.interval": 4,  # of the micro-batches of 4 records: each step
    "default_hooks.logger.interval": 1,
}
CHOSEN = ("--figure", "4", "--table", "4", "--methods", "lora,moslora", "--parts", "50", "--seeds", "1,2")
KEYS = [f"{recipe}{part}-seed-{seed}" for seed in (1, 2) for part in ("", "-part-50") for recipe in ("lora", "moslora")]


@dataclass(frozen=True)
class World:
    """What the script's variables point at."""

    folder: Path
    environment: dict[str, str]

    def command(self, out: Path, *options: str) -> list[str]:
        return ["bash", str(SCRIPT), "--gpus", "0", "--small-worlds", "-o", str(out), *options]

    def start(self, out: Path, *options: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(out, *options),
            env=os.environ | self.environment | changed,
            capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("table4")
    options = [word for name, value in CHANGES.items() for word in ("--cfg-options", f"{name}={value}")]
    environment = {
        "MOSLORA_VENV": sys.prefix,
        "OMP_NUM_THREADS": "1",
        "COMMONSENSE_LLM": str(standins.make_llama3(root / "llm")),
        "COMMONSENSE_DATA": str(root / "data"),
        "MOSLORA_DATA_OPTIONS": f"--records {RECORDS} --test-questions 2",
        "MOSLORA_TRAIN_OPTIONS": " ".join(options),
        "MOSLORA_EVAL_OPTIONS": "--batch-size 16",
    }
    return World(root, environment)


@dataclass(frozen=True)
class Finished:
    """All done, of which the first training was stopped on the way."""

    out: Path
    stopped: tuple[int, str]
    last: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def finished(world: World, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Started, stopped in the first training when it has a checkpoint, and started again to the end."""
    out = tmp_path_factory.mktemp("table4") / "out"
    with out.with_suffix(".log").open("w") as log:
        first = subprocess.Popen(
            world.command(out, *CHOSEN), env=os.environ | world.environment, stdout=log, stderr=log
        )
        deadline = time.monotonic() + 300
        while not (out / "train" / KEYS[0] / "last_checkpoint").exists():
            assert first.poll() is None, out.with_suffix(".log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.send_signal(signal.SIGTERM)
        first.wait(timeout=300)
    assert not (out / "train" / KEYS[0] / "adapters").exists()
    last = world.start(out, *CHOSEN)
    assert last.returncode == 0, last.stdout[-2000:] + last.stderr[-2000:]
    return Finished(out, (first.returncode, out.with_suffix(".log").read_text()), last)


def printed(text: str) -> dict[str, str]:
    """Command and what stands beside it."""
    lines = [line for line in text.splitlines() if "  # " in line and not line.startswith("#")]
    return dict(line.split("  # ", 1) for line in lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--table", "2"], "--table 2: the tables are 1, 3, 4"),
        (["--figure", "5"], "there is figure 4 alone"),
        (["--methods", "vera"], "nothing that is chosen has vera"),
        (["--seeds", "one"], "give whole numbers"),
        (["--figure", "4", "--parts", "150"], "--parts 150: give per cent"),
        (["--parts", "50"], "--parts is of --figure 4"),
        (["--gpus", "3"], "give 1, 2, 4, 8 or 16"),
        (["--table"], "needs a value"),
        (["--fast"], "there is no option --fast"),
    ],
)
def test_wrong_options_are_refused(options: list[str], said: str, tmp_path: Path) -> None:
    command = ["bash", str(SCRIPT), "-o", str(tmp_path / "out"), *options]
    environment = os.environ | {"MOSLORA_VENV": sys.prefix}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, said in ended.stderr) == (2, True), ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_all_that_is_missing_is_told_at_once(world: World, tmp_path: Path) -> None:
    """The paper's own questions and model, on a GPU that is not here; and its hours."""
    gone = {"COMMONSENSE_LLM": str(tmp_path / "llm"), "COMMONSENSE_DATA": str(tmp_path / "data"),
            "LLM_ADAPTERS": str(tmp_path / "adapters"), "MOSLORA_TRAIN_OPTIONS": ""}  # fmt: skip
    command = ["bash", str(SCRIPT), "-o", str(tmp_path / "out"), "--table", "1,3,4", "--figure", "4", "--greedy"]
    found = {}
    for options, status in ((["--methods", "lora"], 3), (["--dry-run", "--gpus", "4"], 0)):
        environment = os.environ | world.environment | gone
        found[status] = subprocess.run(
            [*command, *options], env=environment, capture_output=True, text=True, check=False
        )
        assert found[status].returncode == status, found[status].stderr
        assert not (tmp_path / "out").exists()
        told = [line for line in found[status].stderr.splitlines() if line.startswith("missing: ")]
        assert [re.split(r"[= ]", line)[1] for line in told] == [
            "LLM_ADAPTERS", "COMMONSENSE_LLM", "1" if status else "4",
        ]  # fmt: skip
        assert "dataset/hellaswag/test.json" in told[0]
        assert "git clone https://github.com/AGI-Edgerunners/LLM-Adapters" in told[0]
    beside = printed(found[0].stdout)
    trainings = {command: how for command, how in beside.items() if "/moslora train " in command}
    assert len(trainings) == 23
    for command, how in trainings.items():
        assert "train_dataloader.batch_size=4 " in command
        assert "optim_wrapper.accumulative_counts=1 " in command  # 16 records on 4 GPUs
        assert ("parts/part-" in command) is ("% of the questions" in how)
    (lokr,) = [how for command, how in trainings.items() if "commonsense_lokr" in command]
    assert lokr == "estimated 6.58 h (Table 4's 26.3 h on an A100 80 GB, shared out to 4 GPUs)"
    each = [float(how.split()[1]) for how in beside.values()]
    assert f"# estimated {sum(each):.3g} h in all, {len(each)} steps" in found[0].stdout
    assert sum("--benchmarks commonsense-greedy" in command for command in beside if "/moslora eval " in command) == 23


@pytest.mark.slow
def test_data_that_is_not_whole_is_told(world: World, tmp_path: Path) -> None:
    tables = tmp_path / "data" / "LMUData"
    tables.mkdir(parents=True)
    (tmp_path / "data" / "train.json").write_text("[]")
    for name in GROUPS["small-worlds"]:
        if "boolq" not in name:
            (tables / f"{name}.tsv").touch()
    ended = world.start(tmp_path / "out", "--methods", "lora", COMMONSENSE_DATA=str(tmp_path / "data"))
    assert ended.returncode == 3
    (told,) = [line for line in ended.stderr.splitlines() if line.startswith("missing: ")]
    assert f"COMMONSENSE_DATA={tables} lacks SmallWorlds_boolq.tsv: make them again" in told


@pytest.mark.slow
def test_stopped_in_a_training_it_goes_on_from_there(finished: Finished) -> None:
    status, said = finished.stopped
    assert status == 143
    assert f"error: step train-{KEYS[0]} was interrupted" in said.splitlines()[-1]
    out = finished.out
    log = (out / "train" / KEYS[0] / "train.log").read_text().splitlines()
    assert ["--resume" in line for line in log if line[:2] == "$ "] == [False, True]
    assert "commonsense: prepare: done" in finished.last.stdout
    assert sorted(path.name for path in (out / "train").iterdir()) == sorted(KEYS)
    assert len(json.loads((out / "train" / KEYS[0] / "run.json").read_text())["earlier"]) == 1
    for key in KEYS:
        facts = json.loads((out / "train" / key / "adapters" / "training.json").read_text())
        records = RECORDS // 2 if "part" in key else RECORDS
        assert facts["steps"] == records // MICRO_BATCH, key  # one epoch of the part; four of them are a step
        assert facts["seed"] == int(key[-1])
        source = facts["data"]["sources"]
        assert source.split(" ")[0] == (f"part-50-seed-{key[-1]}.json" if "part" in key else "train.json")


@pytest.mark.slow
def test_the_parts_lie_within_the_whole_and_differ_by_seed(world: World, finished: Finished) -> None:
    whole = [record["id"] for record in json.loads((world.folder / "data" / "train.json").read_text())]
    parts = []
    for seed in (1, 2):
        file = finished.out / "parts" / f"part-50-seed-{seed}" / f"part-50-seed-{seed}.json"
        parts.append({record["id"] for record in json.loads(file.read_text())})
    assert all(part < set(whole) and len(part) == RECORDS // 2 for part in parts)
    assert parts[0] != parts[1]


@pytest.mark.slow
def test_a_table_over_seeds_and_a_figure(finished: Finished) -> None:
    report = finished.out / "report"
    with (report / "table4.csv").open() as stream:
        rows = {line[0]: line[1:] for line in list(csv.reader(stream))[1:]}
    assert list(rows) == ["LoRA", "MoSLoRA (Kaiming)"]  # small worlds: nothing of the paper's
    scores, models = {}, set()
    for folder in (finished.out / "eval").iterdir():
        found = json.loads((folder / "scores.json").read_text())
        models.add(found["manifest"]["model_sha256"])
        scores[found["model"]] = [100 * e["overall"] / e["scale"] for e in found["benchmarks"].values()]
        assert len(scores[found["model"]]) == 8
    assert len(models) == len(KEYS)  # each evaluation asked a training of its own
    for name, row in rows.items():
        means = [sum(scores[f"{name}, seed {seed}"]) / 8 for seed in (1, 2)]
        assert row[0] == "2"
        assert float(row[9].split(" ")[0]) == pytest.approx(sum(means) / 2, abs=0.06)
    trained = [int(row[10].replace(",", "")) for row in rows.values()]
    assert trained[1] - trained[0] == 2 * 5 * 16 * 16  # a mixer for each of five layers in two blocks
    text = (report / "table4.md").read_text()
    assert "No hours of LoRA, seed 1: interrupted and taken up again." in text
    assert "MoSLoRA (Kaiming) minus LoRA: " in text
    points = json.loads((report / "figure4.json").read_text())
    assert {(row["method"], row["per_cent"], row["seed"]) for row in points} == {
        (method, part, seed) for method in rows for part in (50.0, 100.0) for seed in (1, 2)
    }
    assert (report / "figure4.png").stat().st_size > 10_000
    page = (report / "table-4" / "report.html").read_text()
    assert "LoRA, seed 2" in page
    assert "50 %" not in page
    assert "LoRA, 50 %, seed 2" in (report / "figure-4" / "report.html").read_text()


@pytest.mark.slow
def test_again_there_is_nothing_to_do_and_more_is_added_to_it(world: World, finished: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")}
    ended = world.start(finished.out, *CHOSEN)
    assert (ended.returncode, "nothing to do" in ended.stdout) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*")} == before
    more = world.start(finished.out, "--dry-run", "--table", "1", "--seeds", "2,3")
    assert more.returncode == 0, more.stderr
    beside = {command: how == "done" for command, how in printed(more.stdout).items()}
    trainings = {command.partition("--work-dir ")[2].split()[0]: done for command, done in beside.items()
                 if "/moslora train " in command}  # fmt: skip
    done = {Path(folder).name for folder, done in trainings.items() if done}
    assert (len(trainings), done) == (8, {"lora-seed-2"})
    (report,) = [command for command in beside if "/moslora report " in command]
    assert "LoRA-seed-1 " in report  # of an earlier start, and of this table
    assert "MoSLoRA" not in report
    other = world.start(finished.out, *CHOSEN, MOSLORA_TRAIN_OPTIONS="")
    assert (other.returncode, "begun with other settings" in other.stderr) == (4, True)
