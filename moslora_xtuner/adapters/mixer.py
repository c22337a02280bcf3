"""The r x r mixers and their initialisation.

No function of torch.nn.init is used: XTuner's LoadWoInit replaces several of them by no-ops, and a
mixer must never be left as whatever the memory held.
"""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import AdapterError


def mixer_generator(layer_name: str) -> torch.Generator:
    """Return a CPU generator for one layer's mixer, seeded by the global state and the layer's name.

    The global generator is read and not advanced. So under one `torch.manual_seed` LoRA and MoSLoRA start
    from the same A and see the same later draws (dropout, shuffling), and every layer has its own draw. What the
    adapter is called makes no difference, as in PEFT; the draw of its A has moved the state for the next one.
    """
    digest = hashlib.sha256(bytes(torch.random.get_rng_state().tolist()))
    digest.update(f"{layer_name}\0default".encode())
    generator = torch.Generator(device="cpu")
    generator.manual_seed(int.from_bytes(digest.digest()[:8], "little"))
    return generator


def initial_mixer(init: str, r: int, generator: torch.Generator) -> Tensor:
    """Return the (r, r) start of a learned mixer, float32 on the CPU (arXiv 2406.11909, Table 3).

    kaiming_uniform: U(-1/sqrt(r), 1/sqrt(r)), which is Kaiming with a = sqrt(5) as in the authors' code.
    orthogonal: Q of a normal matrix, signs fixed so that it is uniform over the orthogonal group.
    xavier_uniform: U(-sqrt(3/r), sqrt(3/r)), a line of the authors' code that stands commented out.
    normal: N(0, 1/r^2). The paper gives no deviation; 1/r is what PEFT's "gaussian" draws A with.
    normal_unit: N(0, 1), what the authors' commented line `nn.init.normal_` draws.

    Raises:
        AdapterError: `init` is not one of the strategies.
    """

    def empty() -> Tensor:
        return torch.empty(r, r, dtype=torch.float32, device="cpu")

    if init == "kaiming_uniform":
        bound = 1 / math.sqrt(r)
        return empty().uniform_(-bound, bound, generator=generator)
    if init == "xavier_uniform":
        bound = math.sqrt(3 / r)
        return empty().uniform_(-bound, bound, generator=generator)
    if init == "normal":
        return empty().normal_(0, 1 / r, generator=generator)
    if init == "normal_unit":
        return empty().normal_(0, 1, generator=generator)
    if init == "orthogonal":
        gaussian = empty().normal_(generator=generator)
        # float64, so that M^T M = I to float32 rounding at rank 512 too.
        q, upper = torch.linalg.qr(gaussian.double())
        return (q * upper.diagonal().sign()).float()
    if init == "identity":
        return torch.eye(r, dtype=torch.float32, device="cpu")
    if init in ("zero", "flora"):
        return empty().zero_()
    raise AdapterError(f"mixer_init={init!r} is unknown")


def flora_factor(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Return a (rows, columns) factor as FLoRA starts it, float32 on the CPU.

    N(0, 2 / ((1 + a^2) columns)) with a = sqrt(3): Kaiming's normal for the fan-in (Si et al. 2024).
    """
    return torch.empty(rows, columns).normal_(0, math.sqrt(0.5 / columns), generator=generator)


def butterfly_matrix(r: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return TS-Mixing's (r, r) matrix [[I, I], [I, I]] with blocks of r/2 (arXiv 2406.11909, equation 5)."""
    if r % 2:
        raise AdapterError(f"the butterfly mixer needs an even rank, not {r}")
    return torch.eye(r // 2, dtype=dtype, device=device).repeat(2, 2)


class LearnedMixer(nn.Module):
    """M as a matrix of its own: h -> M h, for h: (..., r) -> (..., r).

    Trained, M is a parameter. Frozen, it is a buffer: XTuner's DeepSpeed checkpoints leave frozen parameters
    out (exclude_frozen_parameters) and keep buffers, and without its M the adapter would be lost.
    """

    weight: Tensor

    def __init__(self, r: int, *, frozen: bool, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.r = r
        # Left empty: `initial_mixer` draws, without advancing the global generator.
        matrix = torch.empty(r, r, dtype=dtype, device=device)
        if frozen:
            self.register_buffer("weight", matrix)
        else:
            self.weight = nn.Parameter(matrix)

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return M, (r, r)."""
        return self.weight.to(dtype=dtype, device=device)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return M h in the dtype of h (the mixer may be float32 over a half-precision adapter)."""
        return F.linear(hidden, self.weight.to(hidden.dtype))

    def extra_repr(self) -> str:
        return f"r={self.r}" + ("" if isinstance(self.weight, nn.Parameter) else ", frozen")


class ButterflyMixer(nn.Module):
    """TS-Mixing without a parameter: [[I, I], [I, I]] (h1, h2) = (h1 + h2, h1 + h2).

    x (A1 + A2)(B1 + B2) = x A [[I, I], [I, I]] B: LoRA plus the cross terms A1 B2 and A2 B1
    (arXiv 2406.11909, equations 3 to 5). Shapes: (..., r) -> (..., r), r even.
    """

    def __init__(self, r: int) -> None:
        super().__init__()
        if r % 2:
            raise AdapterError(f"the butterfly mixer needs an even rank, not {r}")
        self.r = r

    def matrix(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return [[I, I], [I, I]], (r, r)."""
        return butterfly_matrix(self.r, dtype, device)

    def forward(self, hidden: Tensor) -> Tensor:
        first, second = hidden.chunk(2, dim=-1)
        both = first + second
        return torch.cat((both, both), dim=-1)

    def extra_repr(self) -> str:
        return f"r={self.r}"


AnyMixer = LearnedMixer | ButterflyMixer
