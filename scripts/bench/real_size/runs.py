"""One recipe at its real size: planned, trained for one step by `moslora train`, and measured."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from .clock import MARKS
from .foreseen import Foreseen
from .memory import Watched, watch

ROOT = Path(__file__).resolve().parents[3]
DEEPSPEED = {
    "gradient_accumulation_steps": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
    "bf16": {"enabled": True},
    "zero_optimization": {
        "stage": 2,
        "overlap_comm": False,
        "reduce_bucket_size": 2_000_000,
        "allgather_bucket_size": 2_000_000,
    },
}
"""`zero2` for gloo with bf16, which one process on gloo takes: there is nothing to add up with others."""
PAPER = {
    "llava_llama3_lora": (167_772_160, 28_311_552),
    "llava_llama3_moslora": (167_772_160 + 917_504, 28_311_552 + 589_824),
    "llava_llama3_moslora_kaiming": (167_772_160 + 917_504, 28_311_552 + 589_824),
    "llava_internlm2_qlora": (1_207_959_552, 28_311_552),
    "llava_internlm2_qmoslora": (1_207_959_552 + 41_943_040, 28_311_552 + 589_824),
    "llava_internlm2_qmoslora_kaiming": (1_207_959_552 + 41_943_040, 28_311_552 + 589_824),
}
"""Trained weights of the language model's and the visual encoder's adapters, by the shapes of the paper's Table 8."""
LAYERS, VISUAL_LAYERS, VISUAL_USED = 32, 24, 23
"""Of both language models; of CLIP-L, and those that the features before its last layer come from."""


def family(recipe: str) -> str:
    """The language model's."""
    return "llama3" if "llama3" in recipe else "internlm2"


def environment(work: Path, recipe: str, llm: Path) -> dict[str, str]:
    """The recipe's variables, and the paths that a child needs to find the package and the clock."""
    kind, models = family(recipe), work / "models"
    name, size = {"llama3": ("LLAMA3", "8B"), "internlm2": ("INTERNLM2", "7B")}[kind]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "scripts"), os.environ.get("PYTHONPATH")))),
        f"{name}_{size}": str(llm),
        f"{name}_STORE": str(work / f"store_{kind}"),
        f"{name}_PROJECTOR": str(models / f"projector_{kind}"),
        "CLIP_L_336": str(models / "clip"),
        "LLAVA_IMAGES": str(work / "images"),
        MARKS: str(work / f"{recipe}.marks.json"),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 23),  # glibc would keep freed tensors of up to 32 MiB, and count them
    }


def options(recipe: str) -> list[str]:
    """What differs from the recipe: bf16 on a CPU, two micro-batches of one record, no checkpoint, the clock."""
    changed = [
        "model.llm.torch_dtype=torch.bfloat16",
        "model.visual_encoder.torch_dtype=torch.bfloat16",
        "train_dataloader.batch_size=1",
        "optim_wrapper.accumulative_counts=2",
        "train_dataloader.sampler.per_device_batch_size=2",
        "train_dataloader.num_workers=0",
        "train_dataloader.persistent_workers=False",
        "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.interval=-1",
        "default_hooks.checkpoint.save_last=False",
        "custom_hooks.1.type=bench.real_size.clock.Clock",
    ]
    if family(recipe) == "internlm2":
        changed.append("model.llm.quantization_config.bnb_4bit_compute_dtype=bfloat16")
    return changed


def train(work: Path, recipe: str, layers: int, plan: Foreseen, variables: dict[str, str], deepspeed: Path) -> Any:
    """The row of one recipe.

    Raises:
        SystemExit: the training failed; its log is named.
    """
    run, log = work / "runs" / recipe, work / f"{recipe}.log"
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "moslora_xtuner", "train", recipe, "--processes", "1", "--skip-plan"]
    command += ["--deepspeed", str(deepspeed), "--work-dir", str(run)]
    command += [word for option in options(recipe) for word in ("--cfg-options", option)]
    seen = watch(command, variables, log)
    if seen.status:
        raise SystemExit(f"error: {recipe} ended with status {seen.status}: look at {log}")
    marks = json.loads(Path(variables[MARKS]).read_text(encoding="utf-8"))
    facts = json.loads((run / "adapters" / "training.json").read_text(encoding="utf-8"))
    written = sum(file.stat().st_size for file in (run / "adapters").rglob("*.safetensors"))
    row = {
        "recipe": recipe,
        "layers": layers,
        "steps": facts["steps"] // 2,
        "losses": _losses(run),
        "bits": facts["bits"]["llm"],
        "trained": facts["trainable"],
        "trained_by_plan": plan.trained,
        "trained_by_paper": by_paper(recipe, layers),
        "adapters_bytes": written,
        "seconds": {
            "imports": marks["imported"] - seen.began,
            "loading": marks["loaded"] - marks["imported"],
            "step": marks["stepped"] - marks["loaded"],
            "writing": seen.ended - marks["stepped"],
        },
        "memory": memory(seen, marks),
        "plan": {"peak": plan.peak, "loading": plan.loading, "terms": plan.terms},
    }
    shutil.rmtree(run / "adapters")  # gigabytes that have been measured
    return row


def memory(seen: Watched, marks: dict[str, float]) -> dict[str, Any]:
    """Bytes that the training's process holds at most in each of its parts, and the whole launch.

    `own` is anonymous memory, `mapped` pages of files, which the system drops and reads again as it needs room.
    """
    samples = seen.samples[int(marks["pid"])]

    def most(start: float, end: float, own: bool = False) -> dict[str, int]:
        there = [s for s in samples if start <= s.at <= end] or [samples[-1]]
        found = max(there, key=lambda s: s.own if own else s.both)
        return {"own": found.own, "mapped": found.mapped}

    launch = max(seen.tree, key=lambda s: s.both)
    return {
        "imports": most(0, marks["imported"]),
        "loading": most(marks["imported"], marks["loaded"]),
        "loading_own": most(marks["imported"], marks["loaded"], own=True)["own"],
        "loaded": most(marks["loaded"] - 1, marks["loaded"]),
        "step": most(marks["loaded"], marks["stepped"]),
        "step_own": most(marks["loaded"], marks["stepped"], own=True)["own"],
        "writing": most(marks["stepped"], math.inf),
        "launch": {"own": launch.own, "mapped": launch.mapped},
    }


def by_paper(recipe: str, layers: int) -> dict[str, int]:
    """The paper's counts for as many layers as there are here."""
    llm, visual = PAPER[recipe]
    return {"llm": llm * layers // LAYERS, "visual_encoder": visual * VISUAL_USED // VISUAL_LAYERS}


def _losses(run: Path) -> list[float]:
    (file,) = run.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [row["loss"] for row in rows if "loss" in row]
