"""Every recipe of the paper's section 4.1 on a small stand-in: trained, stopped, resumed, exported, loaded elsewhere.

    python scripts/commonsense_methods.py OUT                  all of them, 30 steps on two processes with ZeRO-2
    python scripts/commonsense_methods.py OUT --only dora loha --steps 10

Needs no GPU: some ten minutes on two cores. It ends with 1 when anything is not as it should be, and writes
docs/results/commonsense_methods.json with --write, from which `python scripts/document_commonsense.py` makes a table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from commonsense.counts import adapted, methods
from commonsense.standin import make_standin

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "docs" / "results" / "commonsense_methods.json"
STOCK_PEFT = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
assert "moslora_xtuner" not in sys.modules
ids, found = torch.arange(3, 67)[None], {}
for name, (adapter, merged) in json.loads(sys.argv[2]).items():
    with torch.no_grad():
        wanted = AutoModelForCausalLM.from_pretrained(merged).eval()(input_ids=ids).logits
        try:
            model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), adapter).eval()
        except KeyError as fault:
            found[name] = "refused"
            continue
        found[name] = float((model(input_ids=ids).logits - wanted).abs().max() / wanted.abs().max())
print(json.dumps(found))
"""


def options(steps: int) -> list[str]:
    """What makes a recipe end after some steps, and stop once on the way."""
    return [
        "train_cfg.max_epochs=None", f"train_cfg.max_iters={steps}", "optim_wrapper.accumulative_counts=1",
        "param_scheduler.warmup_steps=3", "optim_wrapper.optimizer.lr=3e-3", "default_hooks.logger.interval=1",
        "log_processor.window_size=1", f"default_hooks.checkpoint.interval={steps // 2}",
        "train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False",
    ]  # fmt: skip


def train_all(runs: list[dict[str, Any]]) -> None:
    """What each of the processes does: XTuner's own program, one training after the other."""
    from mmengine.registry import OPTIMIZERS
    from xtuner.tools import train as program

    for run in runs:
        words = [str(ROOT / "xtuner_configs" / f"{run['name']}.py"), "--work-dir", run["out"]]
        words += ["--deepspeed", "zero2", "--launcher", "pytorch"]
        words += ["--resume", run["resume"]] if run["resume"] else []
        sys.argv[1:] = [*words, "--cfg-options", *run["options"]]
        began = time.perf_counter()
        program.main()
        Path(run["out"], "seconds").write_text(f"{time.perf_counter() - began:.1f}")
        # mmengine registers DeepSpeed's optimisers for each training, and refuses the second time.
        for name, optimiser in [*OPTIMIZERS.module_dict.items()]:
            if optimiser.__module__.startswith("deepspeed."):
                del OPTIMIZERS.module_dict[name]


def launch(runs: list[dict[str, Any]], out: Path, processes: int, variables: dict[str, str]) -> None:
    """Start the processes, and wait for them."""
    (out / "runs.json").write_text(json.dumps(runs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    with (out / "log").open("a") as log:
        done = subprocess.run(
            [*command, str(Path(__file__).resolve()), str(out), "--runs", str(out / "runs.json")],
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables}, stdout=log, stderr=log, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"error: a training failed: see {out / 'log'}")


def losses(run: Path) -> list[float]:
    """Of each step, of the newest start."""
    file = sorted(run.glob("*/vis_data/scalars.json"))[-1]
    return [row["loss"] for row in map(json.loads, file.read_text().splitlines()) if "loss" in row]


def resumed(run: Path, steps: int) -> Path:
    """A copy of a run as it would be if it had been stopped half way."""
    other = run.with_name(f"{run.name}_resumed")
    shutil.copytree(run, other)
    for left in (other / "adapters", other / f"iter_{steps}.pth", other / f"iter_{steps}.state"):
        shutil.rmtree(left)
    (other / "last_checkpoint").write_text(f"iter_{steps // 2}.pth")
    return other


def same(first: Path, second: Path) -> bool:
    """Whether two runs left the same adapter, to the bit."""
    import torch
    from safetensors.torch import load_file

    a, b = (load_file(run / "adapters" / "llm" / "adapter_model.safetensors") for run in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def main() -> None:
    """Train, resume, export, load; print a line a method; write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="without `commonsense_`")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--runs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.runs:
        train_all(json.loads(args.runs.read_text()))
        return
    from moslora_xtuner.export.merge import export

    names = [f"commonsense_{name}" for name in args.only] if args.only else methods()
    out = args.out.resolve()
    out.mkdir(parents=True)
    variables = make_standin(out / "data")
    runs = [{"name": n, "out": str(out / n), "options": options(args.steps), "resume": None} for n in names]
    launch(runs, out, args.processes, variables)
    again = [{**run, "out": str(resumed(Path(run["out"]), args.steps))} for run in runs]
    for run in again:
        run["resume"] = str(Path(run["out"]) / f"iter_{args.steps // 2}.pth")
    launch(again, out, args.processes, variables)
    lines: list[str] = []
    for name in names:
        export(out / name, out / f"{name}_merged", tell=lines.append)
    pairs = {name: [str(out / name / "adapters" / "llm"), str(out / f"{name}_merged")] for name in names}
    stock = subprocess.run(
        [sys.executable, "-c", STOCK_PEFT, variables["COMMONSENSE_LLM"], json.dumps(pairs)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    gaps = json.loads(stock.stdout.splitlines()[-1])
    found = {}
    for name, line in zip(names, lines, strict=True):
        seen = losses(out / name)
        found[name] = {
            "trained_8b": adapted(name).trainable,
            "first_loss": round(seen[0], 4),
            "last_loss": round(seen[-1], 4),
            "seconds": float((out / name / "seconds").read_text()),
            "resumed_to_the_bit": same(out / name, out / f"{name}_resumed"),
            "stock_peft": gaps[name],
            "export": line.rpartition(": ")[2],
        }
        print(name, found[name], flush=True)
    bad = [
        name
        for name, facts in found.items()
        if not facts["resumed_to_the_bit"]
        or (facts["stock_peft"] != "refused" and facts["stock_peft"] > 1e-4)
        or (facts["last_loss"] < facts["first_loss"] - 0.01) is (name == "commonsense_moslora_zero")
    ]
    if args.write:
        setting = {"steps": args.steps, "processes": args.processes, "cores": os.cpu_count()}
        RESULT.write_text(json.dumps({"setting": setting, "methods": found}, indent=1) + "\n", encoding="utf-8")
    if bad:
        raise SystemExit(f"error: not as it should be: {', '.join(bad)}")


if __name__ == "__main__":
    main()
