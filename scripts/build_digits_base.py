"""Build the small base model that DigitsVQA tunes: tokenizer, LLaMA, CLIP ViT and projector, from nothing.

    python scripts/build_digits_base.py -o moslora_xtuner/assets/digits_base

The visual encoder learns to see digits; then the projector and the language model learn to caption pictures of
train digits (what stage 1 of LLaVA-1.5 teaches), and the language model to read lettered options and to answer
questions about captions. It never sees a question about a picture: joining the two is what stage 2 adapts.

The result is deterministic for a seed, a number of processes and a machine. It is written in fp16, in the
layout of real checkpoints: `llm/`, `visual_encoder/` and `projector/`, each with config and safetensors. Each
finished stage is kept in `--state`, so an interrupted build goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from synthetic.digits_base.curriculum import CURRICULUM, Corpus
from synthetic.digits_base.language import train_stage
from synthetic.digits_base.model import Base, save
from synthetic.digits_base.sight import train_sight
from synthetic.digits_base.words import train_tokenizer


class Checkpoints:
    """The model after each stage, named by everything that led there: a changed stage is trained again."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder, self.history = folder, settings

    def place(self, stage: str) -> Path:
        """The file of the model after this stage."""
        self.history = hashlib.sha256(f"{self.history}\n{stage}".encode()).hexdigest()
        return self.folder / f"{self.history[:16]}.pt"


def write(path: Path, model: Base, steps: int) -> None:
    """Keep the model and the number of steps that the stage took."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "steps": steps}, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def work(rank: int, args: argparse.Namespace) -> None:
    """One of the processes; the first saves."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{args.port}", rank=rank, world_size=args.processes
    )
    tokenizer = train_tokenizer(args.vocab, args.seed)
    model = Base(tokenizer)
    settings = {name: getattr(args, name) for name in ("seed", "processes", "tokens", "rate", "vocab", "sight_steps")}
    checkpoints = Checkpoints(args.state, str(settings))
    taken: dict[str, int] = {}
    curriculum = [replace(stage, steps=2) for stage in CURRICULUM] if args.fast else CURRICULUM
    stages = [(None, "sight"), *((stage, stage.name) for stage in curriculum)]
    for number, (stage, name) in enumerate(stages):
        path = checkpoints.place(repr(stage))
        there = path.is_file()
        torch.distributed.barrier()  # before the first process writes
        if there:
            kept = torch.load(path)
            model.load_state_dict(kept["model"])
            taken[name] = kept["steps"]
            continue
        seed = [args.seed, number, rank]
        if stage is None:
            rng = np.random.default_rng(seed)
            train_sight(model, rng, scenes=12 * args.sight_steps, steps=args.sight_steps, rate=args.rate)
            taken[name] = args.sight_steps
        else:
            taken[name] = train_stage(model, Corpus(tokenizer, stage, args.tokens, seed), args.rate)
        if rank == 0:
            write(path, model, taken[name])
    if rank == 0:
        facts = {"template": "llama3_chat", "pad_image_to_square": True, "visual_select_layer": -2}
        save(model, tokenizer, args.out, {**facts, **settings, "steps": taken})
    torch.distributed.destroy_process_group()


def main() -> None:
    """Parse the command line and start the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--state", type=Path, default=Path("build/digits_base"))
    parser.add_argument("--sight-steps", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=1000, help="in a batch of each process")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--fast", action="store_true", help="two steps a stage, to see that it works")
    parser.add_argument("--vocab", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=29417, help="on 127.0.0.1, for the processes to meet")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the data workers are forked
    torch.multiprocessing.spawn(work, (args,), nprocs=args.processes)


if __name__ == "__main__":
    main()
