"""A training step: stock XTuner with PEFT's LoRA beside this package's LoRA and MoSLoRA, in one process.

    python scripts/bench_train.py --shape tiny
    python scripts/bench_train.py --shape llama3-8b --layers 1 --rows 2      # one layer of the real width, on a CPU
    python scripts/bench_train.py --shape llama3-8b --out llama3.json        # on a GPU

All ways share one copy of the frozen weights and see the same records; their repeats are interleaved. The language
model, visual encoder and projector are random and of the real sizes, bf16 on a GPU as DeepSpeed makes them and
float32 on a CPU. A step is forward, backward, clipping and AdamW on one micro-batch.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from bench.training import count  # noqa: E402
from bench.training.batch import make_batch  # noqa: E402
from bench.training.kernels import kernels  # noqa: E402
from bench.training.memory import peak_of  # noqa: E402
from bench.training.shapes import SHAPES, Shape, build_llm, build_visual_encoder  # noqa: E402
from bench.training.table import step_table  # noqa: E402
from bench.training.variants import VARIANTS, make  # noqa: E402
from gpu.machine import described, machine  # noqa: E402

import moslora_xtuner.plugin  # noqa: E402, F401  (the work-arounds that training on a CPU needs)

DEFAULT = ["stock_lora", "lora", "moslora", "lora_fast", "moslora_fast"]


class Trainee:
    """A variant with its optimiser and its micro-batch."""

    def __init__(self, name: str, shape: Shape, llm: Any, visual_encoder: Any, dtype: torch.dtype) -> None:
        self.name = name
        self.model: Any = make(VARIANTS[name], shape, llm, visual_encoder, dtype)
        self.device = next(llm.parameters()).device
        stock, ours = make_batch(shape, self.device)
        self.batch = stock if VARIANTS[name].stock else ours
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=2e-5, betas=(0.9, 0.999), weight_decay=0)
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.peaks: list[int] = []

    @property
    def own_bytes(self) -> int:
        """What this variant alone keeps between steps: trained weights and the optimiser's moments."""
        states = [t for state in self.optimiser.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
        return sum(t.numel() * t.element_size() for t in (*self.trained, *states) if t.device == self.device)

    def forward_backward_update(self) -> float:
        """One optimiser step; its loss."""
        torch.manual_seed(len(self.losses))  # the same dropout masks for all that draw alike
        loss = self.model(dict(self.batch), mode="loss")["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def timed(self) -> None:
        """One step with its time."""
        _wait(self.device)
        began = time.perf_counter()
        loss = self.forward_backward_update()
        _wait(self.device)
        self.seconds.append(time.perf_counter() - began)
        self.losses.append(loss)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--layers", type=int, help="decoder layers, fewer than the model's")
    parser.add_argument("--rows", type=int, help="records of the micro-batch")
    parser.add_argument("--tokens", type=int, help="of the longest record, the picture's included")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=DEFAULT)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the same as JSON")
    args = parser.parse_args(arguments)
    shape = SHAPES[args.shape].cut(args.layers, args.rows, args.tokens)
    found = measure(shape, args.variants, args.repeats)
    print(described(found["machine"]), step_table(found), sep="\n")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=2) + "\n")


def measure(shape: Shape, names: Sequence[str], repeats: int) -> dict[str, Any]:
    """All of it, as the JSON has it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    warnings.filterwarnings("ignore", message=".*use_reentrant.*|.*torch.utils.checkpoint.*")
    say(f"building {shape.name} with {shape.layers} layers on {device.type}")
    llm, visual_encoder = build_llm(shape, dtype, device), build_visual_encoder(shape, dtype, device)
    trainees = [Trainee(name, shape, llm, visual_encoder, dtype) for name in names]
    operations = {}
    for trainee in trainees:
        trainee.losses.append(trainee.forward_backward_update())
        operations[trainee.name] = count.step_operations(lambda t=trainee: t.losses.append(t.forward_backward_update()))
    for repeat in range(repeats):
        for trainee in trainees:
            trainee.timed()
            say(f"{repeat + 1}/{repeats} {trainee.name}: {trainee.seconds[-1]:.3f} s, loss {trainee.losses[-1]:.4f}")
    for trainee in trainees:
        others = sum(other.own_bytes for other in trainees if other is not trainee)
        with peak_of(device) as peak:
            trainee.losses.append(trainee.forward_backward_update())
        trainee.peaks.append(peak.most - others)
    profiled = {}
    if device.type == "cuda":
        say("looking at kernels")
        for trainee in (trainees[0], trainees[-1]):
            profiled[trainee.name] = kernels(lambda t=trainee: t.losses.append(t.forward_backward_update()))
    heads = {t.name: count.head_bytes(t.model, shape, dtype) for t in trainees}
    layers = {t.name: count.layer_operations(t.model, shape, dtype) for t in trainees}
    say("counting what is kept for backward")
    halve(llm)
    saved = {
        t.name: [count.saved_per_token(t.model, shape, autocast=autocast) for autocast in (True, False)]
        for t in trainees
    }
    tokens = int(make_batch(shape, torch.device("cpu"))[1]["attention_mask"].sum())
    rows = []
    for trainee in trainees:
        step = median(trainee.seconds)
        rows.append(
            {
                "variant": trainee.name,
                "step_s": step,
                "step_s_all": trainee.seconds,
                "tokens_per_s": tokens / step,
                "peak_bytes": trainee.peaks[0],
                "saved_bytes_per_token_layer": saved[trainee.name][0],
                "saved_bytes_per_token_layer_bf16": saved[trainee.name][1],
                "head_bytes": heads[trainee.name],
                "operations_per_token_layer": layers[trainee.name],
                "operations_per_step": operations[trainee.name],
                "trained": sum(p.numel() for p in trainee.trained),
                "steps": len(trainee.losses),
                "loss": trainee.losses[-1],
                "losses": trainee.losses,
            }
        )
    del trainees, llm, visual_encoder
    gc.collect()
    return {
        "machine": machine(),
        "shape": shape.name,
        "layers": shape.layers,
        "batch": {"rows": shape.rows, "longest": shape.tokens, "tokens": tokens},
        "dtype": str(dtype).removeprefix("torch."),
        "four_bits": shape.four_bits,
        "repeats": repeats,
        "rows": rows,
        "kernels": profiled,
    }


def halve(model: Any) -> None:
    """Make the weights bf16; transformers refuses to cast a model whose other weights are in 4 bits."""
    for weight in (*model.parameters(), *model.buffers()):
        if weight.is_floating_point():
            weight.data = weight.data.to(torch.bfloat16)


def say(what: str) -> None:
    """To standard error, at once."""
    print(what, file=sys.stderr, flush=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
