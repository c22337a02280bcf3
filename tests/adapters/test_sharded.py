"""Two processes that share an adapted model's parameters (FSDP1, FSDP2, DDP), held against one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from places import TESTS

import moslora_xtuner

KINDS = {
    "stock": "LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS)",
    "learned": "MosLoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, mixer_init='orthogonal')",
    "frozen": "MosLoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, mixer_init='orthogonal', freeze_mixer=True)",
    "butterfly": "MosLoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, mixer='butterfly')",
}
FUSED = ("stock, fused", "learned, fused", "butterfly, fused")
KINDS |= {kind: KINDS[kind.removesuffix(", fused")] for kind in FUSED}

HOWS = ("fsdp1", "fsdp2", "ddp")

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from peft.utils.other import fsdp_auto_wrap_policy
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from small_llama import IDS, LLAMA_TARGETS as TARGETS, build_llama, randomise
from moslora_xtuner.adapters import MosLoraConfig, fuse

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)


def run(config, how, fused):
    torch.manual_seed(5)
    model = randomise(get_peft_model(build_llama(), eval(config))).train()
    assert not fused or fuse(model) == 14
    if how == "fsdp1":
        policy, cpu = fsdp_auto_wrap_policy(model), torch.device("cpu")
        model = FullyShardedDataParallel(model, auto_wrap_policy=policy, use_orig_params=True, device_id=cpu)
    elif how == "fsdp2":
        for layer in model.base_model.model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    elif how == "ddp":
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    ids = IDS if how == "one" else IDS[rank : rank + 1]
    losses = []
    for _ in range(4):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    losses = torch.stack(losses)
    if how != "one":
        dist.all_reduce(losses)
        losses /= 2
    with torch.no_grad():
        logits = model.eval()(input_ids=IDS).logits
    return {"losses": losses, "logits": logits}


found = {}
for kind, config in KINDS.items():
    for how in ("one", *HOWS):
        try:
            found[kind, how] = run(config, how, kind in FUSED)
        except Exception as error:
            found[kind, how] = repr(error)
            break
if rank == 0:
    torch.save(found, f"{folder}/found.pt")
dist.barrier()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """Losses of four steps and the logits after them, of every kind in one process and on two; from one start."""
    folder = tmp_path_factory.mktemp("sharded")
    roots = [str(Path(moslora_xtuner.__file__).parents[1]), str(TESTS)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*roots, os.environ.get("PYTHONPATH", "")])}
    environment |= {"FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer", "GLOO_SOCKET_IFNAME": "lo"}
    script = folder / "script.py"
    script.write_text(f"KINDS, HOWS, FUSED = {KINDS!r}, {HOWS!r}, {FUSED!r}\n{SCRIPT}")
    running = [
        subprocess.Popen(
            [sys.executable, str(script), rank, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in running:
            said = process.communicate(timeout=300)[0]
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in running:
            process.kill()
    return torch.load(folder / "found.pt")


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_trained_on_two_processes_it_is_what_one_process_trains(
    found: dict[tuple[str, str], dict[str, torch.Tensor]], kind: str, how: str
) -> None:
    wanted = found[kind, "one"]
    assert wanted["losses"][-1] < wanted["losses"][0]
    assert isinstance(found[kind, how], dict), found[kind, how]
    for name, tensor in wanted.items():
        gap = float((found[kind, how][name] - tensor).abs().max() / tensor.abs().max())
        assert gap < 1e-4, f"{name} differ by {gap:.1e}"
