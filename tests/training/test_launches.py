"""Real launches: resumed, on two hosts, with one process killed, and without moslora in front."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bench.faults.processes import ranks
from places import CONFIGS

from moslora_xtuner.errors import TrainingError
from moslora_xtuner.training.artifacts import ADAPTERS, MANIFEST
from moslora_xtuner.training.launch import train
from moslora_xtuner.training.record import RUN

pytestmark = pytest.mark.slow
SECONDS = 60
"""How long the others may live after one process has died."""
# 48 records: 2 processes with 2 each are 12 steps.
OPTIONS = (
    "train_dataloader.batch_size=2",
    "train_dataloader.sampler.per_device_batch_size=2",
    "default_hooks.logger.interval=1",
    "log_processor.window_size=1",
    "model.llm_lora.lora_dropout=0.1",
    "model.visual_encoder_lora.lora_dropout=0.1",
)


@pytest.fixture
def variables(tiny_base: Path, tiny_data: Path) -> dict[str, str]:
    return {"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(tiny_data), "OMP_NUM_THREADS": "1"}


def losses(folder: Path) -> dict[int, float]:
    """The loss of each step, of the newest start of a run."""
    file = sorted(folder.glob("*/vis_data/scalars.json"))[-1]
    rows: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


@pytest.fixture(scope="module")
def whole(tiny_base: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a run of two processes that nothing happens to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    environment = {"DIGITS_BASE": str(tiny_base), "DIGITS_DATA": str(tiny_data), "OMP_NUM_THREADS": "1"}
    train("digits_moslora", processes=2, work_dir=out, cfg_options=OPTIONS, environment=environment,
          progress=lambda *_: None)  # fmt: skip
    found = losses(out)
    assert sorted(found) == list(range(1, 13))
    return found


def test_straight_from_a_json_is_the_same_training(
    variables: dict[str, str], whole: dict[int, float], tiny_data: Path, tmp_path: Path
) -> None:
    variables["MOSLORA_CACHE"] = str(tmp_path / "cache")
    options = [*OPTIONS, f"train_dataloader.dataset.data_path={tiny_data / 'train.json'}"]
    out = tmp_path / "run"
    train("digits_moslora", processes=2, work_dir=out, cfg_options=options, environment=variables,
          progress=lambda *_: None)  # fmt: skip
    assert losses(out) == pytest.approx(whole, rel=0, abs=1e-6)
    (store,) = (tmp_path / "cache" / "stores").iterdir()
    assert json.loads((store / "store.json").read_text())["records"] == 48


def test_a_bad_record_stops_a_training_before_its_first_step(
    variables: dict[str, str], tiny_data: Path, tmp_path: Path
) -> None:
    variables["MOSLORA_CACHE"] = str(tmp_path / "cache")
    records = json.loads((tiny_data / "train.json").read_text(encoding="utf-8"))
    records[7] = {"id": "lost", "image": "gone.png", "conversations": records[7]["conversations"]}
    records[7]["conversations"][0]["value"] = "<image>\nQ"
    (tmp_path / "bad.json").write_text(json.dumps(records))
    options = [*OPTIONS, f"train_dataloader.dataset.data_path={tmp_path / 'bad.json'}"]
    out = tmp_path / "run"
    with pytest.raises(TrainingError) as fault:
        train("digits_moslora", processes=2, work_dir=out, cfg_options=options, environment=variables,
              progress=lambda *_: None)  # fmt: skip
    log = "".join(path.read_text(errors="replace") for path in out.rglob("*.log"))
    assert "record 7 (id lost, byte " in str(fault.value) + log
    assert not list(out.glob("*/vis_data/scalars.json"))


def test_an_interrupted_run_goes_on(variables: dict[str, str], whole: dict[int, float], tmp_path: Path) -> None:
    options = [*OPTIONS, "default_hooks.checkpoint.interval=4"]
    variables["PYTHONPATH"] = ""  # not warm (tests/warm): what is killed is then what trains

    def stop(step: int, total: int, loss: float) -> None:
        if step >= 5:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train("digits_moslora", processes=2, work_dir=out, cfg_options=options, environment=variables, progress=stop)
    assert Path((out / "last_checkpoint").read_text()).name in ("iter_4.pth", "iter_8.pth")
    seen: list[int] = []
    train("digits_moslora", processes=2, work_dir=out, cfg_options=options, environment=variables, resume="auto",
          progress=lambda step, *_: seen.append(step))  # fmt: skip
    assert seen[0] in (5, 9)
    assert seen[-1] == 12
    after = losses(out)
    assert after == {step: whole[step] for step in after}  # to the bit, dropout and all
    record = json.loads((out / RUN).read_text())
    assert [start["step"] for start in record["earlier"]] == [0]
    assert record["step"] == seen[0] - 1
    assert list(out.glob("*/vis_data/events.out.tfevents.*"))  # TensorBoard


def test_auto_starts_a_run_that_has_no_checkpoint(variables: dict[str, str], tmp_path: Path) -> None:
    options = [*OPTIONS, "train_cfg.max_epochs=None", "train_cfg.max_iters=3"]
    run = train("digits_lora", processes=1, deepspeed=None, work_dir=tmp_path / "run", cfg_options=options,
                environment=variables, resume="auto", progress=lambda *_: None)  # fmt: skip
    assert sorted(losses(run)) == [1, 2, 3]


def test_one_dead_process_ends_all(variables: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed: list[float] = []

    def kill(step: int, total: int, loss: float) -> None:
        if not killed:
            processes = ranks(out)
            assert len(processes) >= 2
            os.kill(processes[-1], signal.SIGKILL)
            killed.append(time.monotonic())

    with pytest.raises(TrainingError, match=r"a process was ended by SIGKILL"):
        train("digits_moslora", processes=2, work_dir=out, environment=variables, progress=kill,
              cfg_options=[*OPTIONS, "train_cfg.max_epochs=200"])  # fmt: skip
    assert time.monotonic() - killed[0] < SECONDS
    assert ranks(out) == []


def test_two_hosts(variables: dict[str, str], whole: dict[int, float], tmp_path: Path) -> None:
    """Two agents of torchrun with their own rendezvous, as two machines would start them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    hosts = []
    for rank in range(2):
        out = tmp_path / f"host{rank}"
        out.mkdir()
        environment = {
            **os.environ, **variables, "NNODES": "2", "NODE_RANK": str(rank), "NPROC_PER_NODE": "1",
            "ADDR": "127.0.0.1", "PORT": str(port), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        command = ["xtuner", "train", "digits_moslora.py", "--deepspeed", "zero2", "--work-dir", str(out)]
        with (out / "log").open("w") as log:
            hosts.append(
                subprocess.Popen(
                    [*command, "--cfg-options", *OPTIONS], stdout=log, stderr=log, env=environment,
                    cwd=CONFIGS, start_new_session=True,
                )
            )  # fmt: skip
    try:
        for host in hosts:
            host.wait(timeout=300)
    finally:
        for host in hosts:
            if host.poll() is None:
                os.killpg(host.pid, signal.SIGKILL)
    assert (tmp_path / "host0" / ADAPTERS / MANIFEST).is_file(), (tmp_path / "host0" / "log").read_text()[-2000:]
    assert json.loads((tmp_path / "host0" / ADAPTERS / MANIFEST).read_text())["processes"] == 2
    # Started by xtuner itself from xtuner_configs/, and the same losses as through moslora.
    assert losses(tmp_path / "host0") == pytest.approx(whole, rel=0, abs=1e-6)
