"""Everything that the steps left need and that is not here, in one list, with how to get it.

    python scripts/reproduce/table5/needs.py --gpus N [--judge NAME[@URL]] [--benchmarks NAMES] STEP...

The variables of the recipes must be set. Nothing is downloaded. Exit status 3 when anything is missing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from moslora_xtuner.eval.tasks.registry import resolve
from moslora_xtuner.eval.tasks.standing_in import asked_for
from reproduce import machine

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


def llm(name: str) -> Iterator[str]:
    """A language model and the projector that was trained for it."""
    variable, source, recipe = LLMS[name]
    yield from machine.model(variable, source)
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


def tables(names: str) -> Iterator[str]:
    """The benchmarks' questions, where `moslora eval` is not told to fetch them."""
    if "--download" in os.environ.get("MOSLORA_EVAL_OPTIONS", "").split():
        return
    root = Path(os.environ["LMUData"])  # noqa: SIM112 (VLMEvalKit's name)
    words = [name.strip() for name in names.split(",") if name.strip()]
    chosen = resolve(asked_for(words, root, download=False))
    yield from machine.tables("LMUData", root, [item.dataset for item in chosen], f"get {TABLES}, and set LMUData")


def judge(name: str) -> Iterator[str]:
    """A judge that can be asked."""
    if "@" not in name and not any(os.environ.get(key) for key in ("OPENAI_API_KEY", "OPENAI_API_BASE")):
        asked = name or "gpt-4o-mini and gpt-4-turbo"
        yield f"no way to ask the judge ({asked}): set OPENAI_API_KEY, or name a server with --judge NAME@URL"


def missing(steps: list[str], wanted_gpus: int, wanted_judge: str, benchmarks: str) -> Iterator[str]:
    """What the steps need and is not here, a line each."""
    kinds = {step.split("-")[0] for step in steps}
    if kinds & {"check", "prepare", "train"}:
        yield from data()
    if kinds & {"prepare", "train", "export"}:
        for name in LLMS:
            if any(name in step for step in steps if step.split("-")[0] in {"prepare", "train", "export"}):
                yield from llm(name)
    if kinds & {"train", "export"}:
        yield from machine.model("CLIP_L_336", CLIP)
    if "train" in kinds:
        yield from machine.gpus(wanted_gpus)
    if "eval" in kinds:
        yield from tables(benchmarks)
        yield from judge(wanted_judge)


def main() -> None:
    """Parse the command line, print the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--judge", default="")
    parser.add_argument("--benchmarks", default="paper")
    parser.add_argument("steps", nargs="*")
    args = parser.parse_args()
    machine.tell(missing(args.steps, args.gpus, args.judge, args.benchmarks))


if __name__ == "__main__":
    main()
