"""All that scripts/reproduce_table5.sh needs, made small: models, projectors, data, tables, options for a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import standins
from places import ROOT

SCRIPT = ROOT / "scripts" / "reproduce_table5.sh"
from make_benchmarks_like import make_benchmarks  # noqa: E402
from make_mix_like import make_mix  # noqa: E402

RECORDS, BATCH = 20, 4
PICTURE = 56
"""Pixels: 16 features of 14 x 14 instead of the recipes' 576, which a CPU takes long for."""
CHANGES = {
    "train_dataloader.batch_size": BATCH,
    "train_dataloader.sampler.per_device_batch_size": BATCH,
    "train_dataloader.num_workers": 0,
    "train_dataloader.persistent_workers": False,
    "train_dataloader.collate_fn.image_tokens": (PICTURE // 14) ** 2,
    "optim_wrapper.accumulative_counts": 1,
    # A resumed training draws other dropout than one that was never interrupted.
    "model.llm_lora.lora_dropout": 0.0,
    "model.visual_encoder_lora.lora_dropout": 0.0,
    "default_hooks.checkpoint.interval": 2,
}


@dataclass(frozen=True)
class World:
    """All that the script's variables point at, and a judge."""

    folder: Path
    environment: dict[str, str]
    judge: str

    def command(self, out: Path, *options: str) -> list[str]:
        return ["bash", str(SCRIPT), "--gpus", "0", "--judge", self.judge, "-o", str(out), *options]

    def start(self, out: Path, *options: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(out, *options),
            env=os.environ | self.environment | changed,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )


def end_soon(llm: Path, head: str, stop: str) -> Path:
    """Make a random model say its stop word after a few words, not after the 512 that it may say."""
    from safetensors.torch import load_file, save_file

    from moslora_xtuner.llm.load import load_tokenizer

    weights = load_file(llm / "model.safetensors")
    weights[head][load_tokenizer(llm).convert_tokens_to_ids(stop)] *= 8
    save_file(weights, llm / "model.safetensors", {"format": "pt"})
    return llm


def make_world(root: Path, judge: str) -> World:
    """Write everything into a folder."""
    make_mix(root / "mix", RECORDS)
    make_benchmarks(root / "LMUData", questions=20)
    options = [word for name, value in CHANGES.items() for word in ("--cfg-options", f"{name}={value}")]
    environment = {
        "MOSLORA_VENV": sys.prefix,
        "OMP_NUM_THREADS": "1",  # small tensors: more threads only wait for each other
        "LLAVA_MIX": str(root / "mix" / "mix.json"),
        "LLAVA_IMAGES": str(root / "mix" / "images"),
        "LLAMA3_8B": str(end_soon(standins.make_llama3(root / "llama3"), "lm_head.weight", "<|eot_id|>")),
        "LLAMA3_PROJECTOR": str(standins.make_projector(root / "projector_llama3")),
        "LLAMA3_STORE": str(root / "store_llama3"),
        "INTERNLM2_7B": str(end_soon(standins.make_internlm2(root / "internlm2"), "output.weight", "<|im_end|>")),
        "INTERNLM2_PROJECTOR": str(standins.make_projector(root / "projector_internlm2", standins.INTERNLM2_WIDTH)),
        "INTERNLM2_STORE": str(root / "store_internlm2"),
        "CLIP_L_336": str(standins.make_clip(root / "clip", PICTURE)),
        "LMUData": str(root / "LMUData"),
        "MOSLORA_DATA_OPTIONS": "--max-length 260",
        "MOSLORA_TRAIN_OPTIONS": " ".join(options),
    }
    return World(root, environment, judge)
