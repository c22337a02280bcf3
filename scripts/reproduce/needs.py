"""Everything that the steps left need and that is not here, in one list, with how to get it.

    python scripts/reproduce/needs.py --gpus N [--judge NAME[@URL]] [--benchmarks NAMES] STEP...

The variables of the recipes must be set. Nothing is downloaded. Exit status 3 when anything is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from moslora_xtuner.errors import MoSLoRAError, SetupError
from moslora_xtuner.eval.tasks.registry import resolve
from moslora_xtuner.eval.tasks.standing_in import asked_for
from moslora_xtuner.llm.weights import Weights
from moslora_xtuner.training.plan.checkpoints import local_config

LLMS = {
    "llama3": (
        "LLAMA3_8B",
        "meta-llama/Meta-Llama-3-8B-Instruct on Hugging Face, whose licence asks to be accepted",
        "llava_llama3_pretrain",
    ),
    "internlm2": ("INTERNLM2_7B", "internlm/internlm2-chat-7b on Hugging Face", "llava_internlm2_pretrain"),
}
CLIP = "openai/clip-vit-large-patch14-336 on Hugging Face"
MIX = "llava_v1_5_mix665k.json of liuhaotian/LLaVA-Instruct-150K on Hugging Face"
IMAGES = "COCO train2017, GQA, OCR-VQA, TextVQA and Visual Genome, as LLaVA's README lists them"
TABLES = "VLMEvalKit's TSV files of these names (MOSLORA_EVAL_OPTIONS=--download fetches them)"


def model(variable: str, source: str) -> Iterator[str]:
    """A checkpoint that is not on this machine, or not whole."""
    where = os.environ[variable]
    try:
        local_config(where)
        Weights(where, local_files_only=True)
    except MoSLoRAError as fault:
        yield f"{variable}={where}: {fault} (source: {source})"


def llm(name: str) -> Iterator[str]:
    """A language model and the projector that was trained for it."""
    variable, source, recipe = LLMS[name]
    yield from model(variable, source)
    projector = f"{name.upper()}_PROJECTOR"
    if not Path(os.environ[projector]).exists():
        yield (
            f"{projector}={os.environ[projector]} is not there: train it with `moslora train {recipe}`, or set "
            f"{projector} to a folder, a .safetensors or XTuner's .pth"
        )


def data() -> Iterator[str]:
    """The instructions and their images."""
    if not Path(os.environ["LLAVA_MIX"]).exists():
        yield f"LLAVA_MIX={os.environ['LLAVA_MIX']} is not there: get {MIX}, and set LLAVA_MIX to it"
    if not Path(os.environ["LLAVA_IMAGES"]).is_dir():
        yield f"LLAVA_IMAGES={os.environ['LLAVA_IMAGES']} is no folder: get {IMAGES}, and set LLAVA_IMAGES to it"


def gpus(wanted: int) -> Iterator[str]:
    """GPUs that were asked for."""
    import torch

    if wanted > (here := torch.cuda.device_count()):
        yield f"{wanted} GPUs are asked for, this machine has {here}: give --gpus, or start on another machine"


def tables(names: str) -> Iterator[str]:
    """The benchmarks' questions, where `moslora eval` is not told to fetch them."""
    if "--download" in os.environ.get("MOSLORA_EVAL_OPTIONS", "").split():
        return
    root = Path(os.environ["LMUData"])  # noqa: SIM112 (VLMEvalKit's name)
    words = [name.strip() for name in names.split(",") if name.strip()]
    chosen = resolve(asked_for(words, root, download=False))
    missing = [item.dataset for item in chosen if not (root / f"{item.dataset}.tsv").is_file()]
    if missing:
        yield f"LMUData={root} lacks {', '.join(f'{name}.tsv' for name in missing)}: get {TABLES}, and set LMUData"


def judge(name: str) -> Iterator[str]:
    """A judge that can be asked."""
    if "@" not in name and not any(os.environ.get(key) for key in ("OPENAI_API_KEY", "OPENAI_API_BASE")):
        asked = name or "gpt-4o-mini and gpt-4-turbo"
        yield f"no way to ask the judge ({asked}): set OPENAI_API_KEY, or name a server with --judge NAME@URL"


def missing(steps: list[str], wanted_gpus: int, wanted_judge: str, benchmarks: str) -> list[str]:
    """What the steps need and is not here, a line each."""
    kinds = {step.split("-")[0] for step in steps}
    found: list[str] = []
    if kinds & {"check", "prepare", "train"}:
        found += data()
    if kinds & {"prepare", "train", "export"}:
        for name in LLMS:
            if any(name in step for step in steps if step.split("-")[0] in {"prepare", "train", "export"}):
                found += llm(name)
    if kinds & {"train", "export"}:
        found += model("CLIP_L_336", CLIP)
    if "train" in kinds:
        found += gpus(wanted_gpus)
    if "eval" in kinds:
        found += tables(benchmarks)
        found += judge(wanted_judge)
    return found


def main() -> None:
    """Parse the command line, print the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--judge", default="")
    parser.add_argument("--benchmarks", default="paper")
    parser.add_argument("steps", nargs="*")
    args = parser.parse_args()
    try:
        found = missing(args.steps, args.gpus, args.judge, args.benchmarks)
    except MoSLoRAError as fault:
        print(f"error: {fault}", file=sys.stderr)
        raise SystemExit(fault.exit_code) from None
    if found:
        print("\n".join(f"missing: {line}" for line in found), file=sys.stderr)
        print(
            f"error: {len(found)} of the things needed are missing, named above: nothing was started", file=sys.stderr
        )
        raise SystemExit(SetupError.exit_code)


if __name__ == "__main__":
    main()
