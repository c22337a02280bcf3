"""Write the tables of docs/adapter.md: trainable parameters, the cost of a layer, and how exact all is.

    python scripts/document_adapter.py                 write the counted ones
    python scripts/document_adapter.py --check         exit with 1 when the page says something else there
    bash scripts/test_adapter_matrix.sh --write        measure how exact it is, with all releases, and write that

Nothing is timed. Models and layers stand on the meta device; operations are counted by torch's FlopCounterMode,
saved bytes by what autograd keeps for the backward pass.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from bench.training.memory import saved_bytes
from docs.marked_tables import write_tables
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from moslora_xtuner.adapters import MosLoraConfig

PAGE = Path(__file__).resolve().parents[1] / "docs" / "adapter.md"
WIDTH, TOKENS = 4096, 2048
RANKS = (16, 64, 512)


def llama3_8b() -> nn.Module:
    """LLaMA-3 8B."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
            num_attention_heads=32, num_key_value_heads=8,
        )
    )  # fmt: skip


def clip_l_336() -> nn.Module:
    """CLIP ViT-L/14 at 336 pixels."""
    return CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
            image_size=336, patch_size=14,
        )
    )  # fmt: skip


def internlm2_7b() -> nn.Module:
    """The linear layers of InternLM2 7B's 32 blocks."""

    def block() -> nn.Module:
        shapes = {"wqkv": (4096, 6144), "wo": (4096, 4096), "w1": (4096, 14336), "w3": (4096, 14336)}
        shapes["w2"] = (14336, 4096)
        return nn.ModuleDict({name: nn.Linear(*shape, bias=False) for name, shape in shapes.items()})

    return nn.Sequential(*(block() for _ in range(32)))


MODELS: tuple[tuple[str, Callable[[], nn.Module], int, tuple[str, ...]], ...] = (
    ("LLaMA-3 8B", llama3_8b, 16, ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")),
    ("LLaMA-3 8B", llama3_8b, 64, ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj")),
    ("CLIP ViT-L/336", clip_l_336, 64, ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")),
    ("InternLM2 7B", internlm2_7b, 512, ("wqkv", "wo", "w1", "w3", "w2")),
)


def trainable(build: Callable[[], nn.Module], config: LoraConfig) -> int:
    """Trainable parameters of an adapted model."""
    with torch.device("meta"):
        model = get_peft_model(build(), config)  # type: ignore[arg-type]
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def parameter_table() -> str:
    """Trainable parameters of LoRA and MoSLoRA at the real sizes."""
    lines = ["| model | r | targets | LoRA | mixers | MoSLoRA |", "|---|---|---|---|---|---|"]
    for name, build, r, targets in MODELS:
        lora = trainable(build, LoraConfig(r=r, target_modules=list(targets)))
        mixed = trainable(build, MosLoraConfig(r=r, target_modules=list(targets)))
        lines.append(f"| {name} | {r} | {', '.join(targets)} | {lora:,} | {mixed - lora:,} | {mixed:,} |")
    return "\n".join(lines)


def cost(form: str, r: int) -> tuple[int, int]:
    """Saved activation bytes and floating-point operations of one bf16 layer, forward and backward.

    The adapter is float32, PEFT's default. The layer's input is an activation (it wants a gradient), as everywhere
    behind the first layer.
    """
    settings: dict[str, Any] = {"r": r, "lora_alpha": r, "target_modules": ["0"]}
    with torch.device("meta"):
        model: nn.Module = nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False)).requires_grad_(False).bfloat16()
        if form != "folded":
            config = MosLoraConfig(**settings) if form == "MoSLoRA" else LoraConfig(**settings)
            model = get_peft_model(model, config)  # type: ignore[arg-type]
        x = torch.empty(TOKENS, WIDTH, dtype=torch.bfloat16, requires_grad=True) * 1
        with FlopCounterMode(display=False) as counter, saved_bytes() as kept:
            out = model(x)
            out.backward(torch.empty_like(out))
    return sum(kept.values()), counter.get_total_flops()


def cost_table() -> str:
    """Saved activations and operations of a layer, and what the mixer adds to LoRA."""
    lines = [
        "| r | | saved for backward, MiB | operations, GFLOP | against LoRA |",
        "|---|---|---|---|---|",
    ]
    kept, operations = cost("folded", 1)
    bare = "frozen layer, or an adapter merged into it"
    lines.append(f"| - | {bare} | {kept / 2**20:.2f} | {operations / 1e9:.2f} | |")
    for r in RANKS:
        lora = cost("LoRA", r)
        for form, title in (("LoRA", "LoRA, or MoSLoRA folded"), ("MoSLoRA", "MoSLoRA")):
            kept, operations = cost(form, r)
            more = "" if form == "LoRA" else f"{100 * (operations / lora[1] - 1):+.2f} % operations"
            lines.append(f"| {r} | {title} | {kept / 2**20:.2f} | {operations / 1e9:.2f} | {more} |")
    return "\n".join(lines)


def exactness_table(figures: Path) -> str:
    """The largest figure that the tests measured, by release, from the files `<releases>.xml` that pytest wrote.

    Raises:
        SystemExit: there is no file, or a release lacks a figure that another has.
    """
    bounds: dict[str, str] = {}
    columns: dict[str, dict[str, float]] = {}
    for file in sorted(figures.glob("*.xml")):
        measured = columns.setdefault(file.stem, {})
        for found in ElementTree.parse(file).iter("property"):
            kind, _, name = found.attrib["name"].partition(": ")
            if kind == "figure":
                value, bounds[name] = found.attrib["value"].split()
                measured[name] = max(float(value), measured.get(name, 0.0))
    if not bounds or any(measured.keys() != bounds.keys() for measured in columns.values()):
        raise SystemExit(f"error: figures are missing in {figures}: all sets must have run to their end")
    lines = ["| | at most | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, bound in bounds.items():
        cells = (f"{measured[name]:.1e}" if measured[name] else "0" for measured in columns.values())
        lines.append(f"| {name} | {bound} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES = {"parameters": parameter_table, "cost": cost_table}


def main() -> None:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="what the tests measured, one file a release")
    args = parser.parse_args()
    tables = {"exactness": lambda: exactness_table(args.figures)} if args.figures else TABLES
    write_tables(PAGE, tables, check=args.check)


if __name__ == "__main__":
    main()
