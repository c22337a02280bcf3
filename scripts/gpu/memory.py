"""Part 3: the memory that `moslora plan` foresees against what a training step really takes.

    python scripts/gpu/memory.py OUT.json --shape llama3-8b [--tokens 2048] [--rows 8] [--variant moslora_fast]

The model of the recipe, random, inside DeepSpeed's engine with the recipe's ZeRO-2 file; three steps at the longest
records. Measured is the most that torch's allocator has given out.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.training.batch import SUPERVISED, make_batch
from bench.training.memory import peak_of
from bench.training.shapes import SHAPES, Shape, build_llm, build_visual_encoder, llm_class
from bench.training.variants import VARIANTS, Variant, adapters

import moslora_xtuner.plugin  # noqa: F401  (the work-arounds that training on a CPU needs)
from gpu.part import run_part

WITHIN = 0.15


def foreseen(shape: Shape, gpu: bool, variant: Variant) -> Any:
    """The estimate of docs/plan.md for one process."""
    import json

    from transformers import CLIPVisionConfig, CLIPVisionModel

    from moslora_xtuner.training.plan.memory import Batch, Precision, Sharding, estimate
    from moslora_xtuner.training.plan.setting import deepspeed_file, ways_of
    from moslora_xtuner.training.plan.shapes import part
    from moslora_xtuner.training.targets import useful_layers

    configs = adapters(shape, variant.method)
    visual = configs["visual_encoder_lora"]
    visual.layers_to_transform = useful_layers(-2, shape.vision["num_hidden_layers"])
    with torch.device("meta"):
        kind, config = llm_class(shape)
        llm, encoder = kind(config), CLIPVisionModel(CLIPVisionConfig(**shape.vision))
    projector = shape.vision["hidden_size"] * shape.llm["hidden_size"] + shape.llm["hidden_size"] ** 2
    projector += 2 * shape.llm["hidden_size"]
    zero = json.loads(deepspeed_file("zero2", gpu).read_text())["zero_optimization"]
    return estimate(
        part(llm, configs["llm_lora"]),
        part(encoder, visual),
        projector,
        Batch(shape.rows, shape.tokens, shape.rows, shape.patches, shape.vision["image_size"]),
        Precision(2 if gpu else 4, 1 if gpu else 4, shape.four_bits),
        Sharding(2, 1, zero["reduce_bucket_size"], bool(zero["overlap_comm"])),
        ways_of(variant.options, SUPERVISED * shape.rows * shape.tokens),
    )


def engine_of(model: Any, gpu: bool, rows: int) -> Any:
    """The model in DeepSpeed, as `xtuner train --deepspeed zero2` puts it there in one process."""
    import json
    import socket

    import deepspeed

    from moslora_xtuner.training.plan.setting import deepspeed_file

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    config = json.loads(deepspeed_file("zero2", gpu).read_text())
    config |= {"train_micro_batch_size_per_gpu": rows, "gradient_accumulation_steps": 1, "gradient_clipping": 1.0}
    if gpu:
        config |= {"bf16": {"enabled": True}, "fp16": {"enabled": False}}
    deepspeed.init_distributed(dist_backend="nccl" if gpu else "gloo")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-5, betas=(0.9, 0.999), weight_decay=0)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimiser, config=config)
    return engine


def measure(found: dict[str, Any], shape: Shape, name: str) -> bool:
    """One number against the other."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    dtype = torch.bfloat16 if gpu else torch.float32
    plan = foreseen(shape, gpu, VARIANTS[name])
    found |= {
        "variant": name, "shape": shape.name, "layers": shape.layers, "rows": shape.rows, "tokens": shape.tokens,
        "foreseen_bytes": plan.total, "terms": dict(plan.rows()),
    }  # fmt: skip
    llm, encoder = build_llm(shape, dtype, device), build_visual_encoder(shape, dtype, device)
    model = VARIANTS[name].build(shape, llm, encoder).to(device).train()
    engine = engine_of(model, gpu, shape.rows)
    _, batch = make_batch(shape, device)
    found["between_steps_bytes"] = found["measured_bytes"] = None

    def step() -> float:
        loss = engine(dict(batch), mode="loss")["loss"]
        engine.backward(loss)
        engine.step()
        return float(loss)

    found["losses"] = [step(), step()]
    with peak_of(device) as peak:
        found["losses"].append(step())
    found |= {"between_steps_bytes": peak.start, "measured_bytes": peak.most}
    if gpu:
        found["reserved_bytes"] = torch.cuda.max_memory_reserved()
    found["foreseen_over_measured"] = plan.total / peak.most
    print(
        f"{shape.name}, {shape.layers} layers, {shape.rows} x {shape.tokens}: foreseen {plan.total / 2**30:.2f} GiB, "
        f"measured {peak.most / 2**30:.2f} GiB ({plan.total / peak.most:.2f})",
        flush=True,
    )
    return abs(plan.total / peak.most - 1) <= WITHIN


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="llama3-8b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument(
        "--variant", choices=[name for name in VARIANTS if name != "stock_lora"], default="moslora_fast"
    )
    args = parser.parse_args()
    shape = SHAPES[args.shape].cut(args.layers, args.rows, args.tokens)
    run_part("memory", args.out, lambda found: measure(found, shape, args.variant))


if __name__ == "__main__":
    main()
