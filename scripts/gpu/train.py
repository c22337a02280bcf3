"""Part 4: one real training through `xtuner train` with ZeRO-2, its export, and answers to questions it never saw.

    python scripts/gpu/train.py OUT.json --work DIR [--cpu]

The recipe is digits_moslora, in bf16 on a GPU as DeepSpeed makes it. It must end with a lower loss than it began with
and answer better than guessing, by VLMEvalKit's scores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu.part import run_part

GUESSED = {"DigitsMMBench_EN": 25.0, "DigitsMMBench_CN": 25.0, "DigitsTextVQA": 10.0}
"""More than these is more than guessing: four options, ten digits."""


def moslora(found: dict[str, Any], work: Path, *words: str) -> None:
    """Run one verb of the command line in `work`; its seconds go into `found`.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    environment = {**os.environ, "DIGITS_DATA": str(work / "data")}
    command = [sys.executable, "-m", "moslora_xtuner", "--debug", *words]
    print("$ moslora", *words, flush=True)
    # From the work folder: a Python that starts in a clone would take the sources there, which lack eval.
    status = subprocess.run(command, cwd=work, env=environment, check=False).returncode
    found["steps_s"][words[0] if words[0] != "data" else "data digits"] = round(time.perf_counter() - began, 1)
    if status:
        raise RuntimeError(f"moslora {' '.join(words)} ended with status {status}")


def losses(run: Path) -> list[float]:
    """The logged losses, in order."""
    newest = max(run.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for line in newest.read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def measure(found: dict[str, Any], work: Path, small: bool) -> bool:
    """Every step."""
    work.mkdir(parents=True, exist_ok=True)
    found["steps_s"] = {}
    sizes = ["--scenes", "160", "--test-questions", "16"] if small else ["--scenes", "1600", "--test-questions", "48"]
    moslora(found, work, "data", "digits", "-o", str(work / "data"), *sizes)
    how = ["--processes", "1"] if small or not torch.cuda.is_available() else ["--gpus", "1"]
    moslora(found, work, "train", "digits_moslora", "--deepspeed", "zero2", "--work-dir", str(work / "run"), *how)
    found["losses"] = losses(work / "run")
    quarter = max(1, len(found["losses"]) // 4)
    found["loss_at_first"] = mean(found["losses"][:quarter])
    found["loss_at_last"] = mean(found["losses"][-quarter:])
    print(f"loss {found['loss_at_first']:.4f} to {found['loss_at_last']:.4f}", flush=True)
    record = json.loads((work / "run" / "run.json").read_text())
    found["hardware"] = record["hardware"]
    moslora(found, work, "export", str(work / "run"), "-o", str(work / "export"))
    tables = str(work / "data" / "LMUData")
    moslora(found, work, "eval", str(work / "export"), "--data-root", tables, "-o", str(work / "eval"))
    scores = json.loads(next((work / "eval").glob("*/scores.json")).read_text())["benchmarks"]
    found["scores"] = {name: score["overall"] for name, score in scores.items()}
    print(found["scores"], flush=True)
    learned = found["loss_at_last"] < found["loss_at_first"]
    return learned and (small or all(found["scores"][name] > least for name, least in GUESSED.items()))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cpu", action="store_true", help="a few steps; scores of such a model mean nothing")
    args = parser.parse_args()
    run_part("train", args.out, lambda found: measure(found, args.work.resolve(), args.cpu))


if __name__ == "__main__":
    main()
