"""Part 1: the adapter on this device, in every number type, against the formula in float64.

    python scripts/gpu/adapter.py OUT.json [--cpu]

y = x W0^T + s B(M(A x)) is computed in float64 from the very weights that the layer holds (a 4-bit base dequantised),
with its gradients; a layer's error is ||y - reference|| / ||reference||.
"""

from __future__ import annotations

import argparse
import math
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu.part import run_part
from moslora_xtuner.adapters import MosLoraConfig, fuse

BOUNDS = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3, "bfloat16": 1e-2}
"""Of the whole: float32 with tf32 off; in half precision three products follow each other, each rounded."""

INFINITE = 1e30
"""In the place of infinity, which JSON does not have."""


@dataclass(frozen=True)
class Case:
    """A layer: its base, the numbers of adapter and input, whether autocast stands over it, its sizes."""

    base: str
    dtype: torch.dtype
    adapter: torch.dtype
    autocast: bool
    inputs: int
    outputs: int
    r: int
    mixer: str
    fused: bool = False

    @property
    def name(self) -> str:
        """As in the JSON."""
        kind = str(self.dtype).removeprefix("torch.")
        over = " under autocast" if self.autocast else ""
        way = " fused" if self.fused else ""
        return f"{self.base} base, {kind}{over}{way}, {self.inputs}x{self.outputs}, r {self.r}, {self.mixer}"


def cases(small: bool) -> Iterator[Case]:
    """The layers of LLaMA-3 8B and InternLM2 7B that the recipes adapt; small ones with `small`."""
    sizes = [(64, 96, 8)] if small else [(4096, 4096, 64), (4096, 14336, 64), (14336, 4096, 64), (4096, 14336, 512)]
    half = torch.bfloat16
    for inputs, outputs, r in sizes:
        for mixer in ("learned", "butterfly"):
            for fused in (False, True):
                yield Case("dense", torch.float32, torch.float32, False, inputs, outputs, r, mixer, fused)
                yield Case("dense", half, half, False, inputs, outputs, r, mixer, fused)
                yield Case("dense", half, torch.float32, True, inputs, outputs, r, mixer, fused)
                yield Case("NF4", half, half, False, inputs, outputs, r, mixer, fused)
                yield Case("NF4", half, torch.float32, True, inputs, outputs, r, mixer, fused)
        yield Case("dense", torch.float64, torch.float64, False, inputs, outputs, r, "learned")
        yield Case("dense", torch.float16, torch.float16, False, inputs, outputs, r, "learned")
        yield Case("8-bit", torch.float16, torch.float16, False, inputs, outputs, r, "learned")


def build(case: Case, device: torch.device) -> Any:
    """The adapted layer, with B drawn too, so that the branch counts."""
    torch.manual_seed(0)
    # bitsandbytes quantises to 8 bits on the way from the CPU alone; the rest is drawn where it is quick.
    place = torch.device("cpu") if case.base == "8-bit" else device
    linear: nn.Module = nn.Linear(case.inputs, case.outputs, bias=False, dtype=case.dtype, device=place)
    weight = torch.randn(case.outputs, case.inputs, device=place).mul_(0.02).to(case.dtype)
    if case.base == "NF4":
        from bitsandbytes.nn import Linear4bit, Params4bit

        linear = Linear4bit(
            case.inputs, case.outputs, bias=False, compute_dtype=case.dtype, quant_type="nf4", device="meta"
        )
        linear.weight = Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True)
    elif case.base == "8-bit":
        from bitsandbytes.nn import Int8Params, Linear8bitLt

        linear = Linear8bitLt(case.inputs, case.outputs, bias=False, has_fp16_weights=False)
        linear.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        linear.weight = nn.Parameter(weight, requires_grad=False)
    base = nn.ModuleDict({"layer": linear}).to(device)
    base.is_loaded_in_4bit = case.base == "NF4"  # type: ignore[assignment]
    base.is_loaded_in_8bit = case.base == "8-bit"  # type: ignore[assignment]
    init = {"mixer_init": "orthogonal"} if case.mixer == "learned" else {}
    config = MosLoraConfig(r=case.r, lora_alpha=2 * case.r, target_modules=["layer"], mixer=case.mixer, **init)
    model = get_peft_model(base, config)  # type: ignore[arg-type]
    for name, value in model.named_parameters():
        if "lora_B" in name:
            value.data.normal_(0, 0.02)
        if "lora_" in name:
            value.data = value.data.to(case.adapter)
    fuse(model, case.fused)
    return model.base_model.model["layer"]


def base_weight(layer: Any, case: Case) -> torch.Tensor:
    """W0 as the layer computes with it, float64."""
    weight = layer.get_base_layer().weight
    if case.base == "NF4":
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state).double()
    if case.base == "8-bit":
        state = layer.get_base_layer().state
        return state.CB.double() * state.SCB.double()[:, None] / 127
    return weight.data.double()


def measure_case(case: Case, device: torch.device) -> list[dict[str, Any]]:
    """Errors of output, gradients and merged weights."""
    layer = build(case, device)
    x = torch.randn(2, 48, case.inputs, device=device).to(case.dtype).requires_grad_()
    grad = torch.randn(2, 48, case.outputs, device=device).to(case.dtype)
    with torch.autocast(device.type, torch.bfloat16, enabled=case.autocast):
        y = layer(x)
    y.backward(grad.to(y.dtype))

    leaves = {"A": layer.lora_A["default"].weight, "B": layer.lora_B["default"].weight}
    mixer = layer.lora_AB["default"]
    if case.mixer == "learned":
        leaves["M"] = mixer.weight
    exact = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    m = exact.get("M", torch.eye(case.r // 2, dtype=torch.float64, device=device).repeat(2, 2))
    w, x64 = base_weight(layer, case), x.detach().double().requires_grad_()
    s = layer.scaling["default"]
    delta = s * exact["B"] @ m @ exact["A"]
    reference = x64 @ w.T + s * (((x64 @ exact["A"].T) @ m.T) @ exact["B"].T)
    reference.backward(grad.double())

    errors = {"output": error(y, reference), "gradient of x": error(x.grad, x64.grad)}
    errors |= {f"gradient of {name}": error(leaf.grad, exact[name].grad) for name, leaf in leaves.items()}
    dtype = torch.bfloat16 if case.autocast else case.dtype
    bound = BOUNDS[str(dtype).removeprefix("torch.")]
    if case.fused:
        if not case.autocast:  # there the plain way draws for float32, and a kernel's draws follow the number type
            errors |= dropout_errors(layer, x.detach(), grad)
    elif case.base == "dense":
        with torch.no_grad():
            before = layer.get_base_layer().weight.detach().clone()
            layer.merge(safe_merge=True)
            errors["merged weight"] = error(layer.get_base_layer().weight, w + delta)
            layer.unmerge()
            errors["unmerged weight"] = error(layer.get_base_layer().weight, before.double())
    elif case.base == "8-bit":
        bound = 3e-2  # the input is rounded to 8 bits too
    return [
        {"case": case.name, "what": what, "error": found, "bound": bound, "ok": found <= bound}
        for what, found in errors.items()
    ]


def dropout_errors(layer: Any, x: torch.Tensor, grad: torch.Tensor) -> dict[str, float]:
    """With dropout, fused against plain after the same seed: another mask would make these errors large."""
    layer.lora_dropout["default"] = nn.Dropout(0.3)
    layer.train()
    made = []
    for fused in (True, False):
        fuse(layer, fused)
        read = x.clone().requires_grad_()
        torch.manual_seed(1)
        y = layer(read)
        layer.zero_grad()
        y.backward(grad.to(y.dtype))
        made.append((y, read.grad, layer.lora_A["default"].weight.grad.clone()))
    names = ("output with dropout", "gradient of x with dropout", "gradient of A with dropout")
    return {name: error(a, b.double()) for name, a, b in zip(names, *made, strict=True)}


def error(found: torch.Tensor | None, reference: torch.Tensor | None) -> float:
    """||found - reference|| / ||reference||; INFINITE where something is missing or not a number."""
    if found is None or reference is None:
        return INFINITE
    value = float((found.detach().double() - reference.detach()).norm() / reference.detach().norm())
    return value if math.isfinite(value) else INFINITE


def measure(found: dict[str, Any], small: bool) -> bool:
    """Every case."""
    device = torch.device("cpu" if small else "cuda")
    torch.backends.cuda.matmul.allow_tf32 = False
    rows: list[dict[str, Any]] = []
    found["rows"] = rows
    for case in cases(small):
        try:
            rows += measure_case(case, device)
        except Exception as fault:  # the other cases are worth having all the same
            traceback.print_exc()
            rows.append({"case": case.name, "what": repr(fault), "error": None, "bound": 0.0, "ok": False})
    for row in rows:
        if not row["ok"]:
            print(f"NOT well: {row['case']}, {row['what']}: {row['error']}, at most {row['bound']:.0e}", flush=True)
    worst: dict[str, float] = {}
    for row in rows:
        key = row["case"].split(", ")[0] + ", " + row["case"].split(", ")[1]
        worst[key] = max(worst.get(key, 0.0), INFINITE if row["error"] is None else row["error"])
    print("\n".join(f"{key}: {value:.1e}" for key, value in worst.items()), flush=True)
    return all(row["ok"] for row in rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cpu", action="store_true", help="small layers, on the CPU")
    args = parser.parse_args()
    run_part("adapter", args.out, lambda found: measure(found, args.cpu))


if __name__ == "__main__":
    main()
