"""How much memory a training step needs on each GPU, counted from shapes.

The terms are what XTuner's LLaVA keeps alive with activation checkpointing; `tests/training/plan/test_memory.py`
holds their sum to the measured peak of real trainings on small models.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from .shapes import Adapted, Part

GIB = 2**30
NF4 = 0.5 + (1 + 4 / 256) / 64
"""Bytes a weight: four bits, and for each 64 weights a scale of 8 bits, for each 256 scales one of 32."""


_READS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "wqkv"), "attention"),
    **dict.fromkeys(("o_proj", "out_proj", "wo"), "attention output"),
    **dict.fromkeys(("gate_proj", "up_proj", "w1", "w3", "fc1"), "mlp"),
    **dict.fromkeys(("down_proj", "w2", "fc2"), "mlp output"),
}
"""Which tensor of a block a layer reads."""


@dataclass(frozen=True)
class Batch:
    """One micro-batch: `images` pictures of `patches` + 1 positions each, and `rows` x `length` tokens.

    The rows of a budget of tokens are what the longest record goes into it, not always a whole number.
    """

    rows: float
    length: int
    images: int
    patches: int
    edge: int


@dataclass(frozen=True)
class Precision:
    """Bytes of a number in the computation, of a dropout mask's element, and whether the LLM is in 4 bits."""

    compute: int
    mask: int
    four_bits: bool


@dataclass(frozen=True)
class Sharding:
    """How DeepSpeed spreads what: stage 0 is plain data parallelism; bucket is ZeRO's, in elements."""

    stage: int
    processes: int
    bucket: int = 0
    overlap: bool = False
    live_parameters: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, by what they are for. The parts that never live at once are in `peak` by their largest."""

    weights: float
    adapters: float
    gradients: float
    optimiser: float
    buckets: float
    checkpoints: float
    block: float
    head: float
    visual_block: float
    dequantised: float

    @property
    def static(self) -> float:
        """What stays from step to step."""
        return self.weights + self.adapters + self.optimiser

    @property
    def total(self) -> float:
        """The peak: the static part, kept activations, gradients, and the largest of head and blocks."""
        working = max(self.head, self.block + self.dequantised, self.visual_block)
        return self.static + self.gradients + self.buckets + self.checkpoints + working

    def rows(self) -> list[tuple[str, float]]:
        """The terms by name, in bytes."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


def estimate(llm: Part, visual: Part, projector: int, batch: Batch, precision: Precision, shard: Sharding) -> Memory:
    """The memory of one GPU in bytes.

    Args:
        llm, visual: with their adapters.
        projector: its weights, all trained.
        batch: the largest micro-batch.
        precision, shard: of the run.

    With c bytes a number, H, I, V, L the sizes of a model, T = rows x length its tokens, P_t the trained weights and
    N the processes::

        weights       c P, or 0.516 P for linear layers in 4 bits         under ZeRO-3 divided by N
        adapters      c P_t                                                under ZeRO-3 divided by N
        optimiser     (4 + 8) P_t / N: the float32 copy and Adam's moments (8 P_t without DeepSpeed)
        gradients     c P_t                                                under ZeRO-2 and 3 divided by N
        checkpoints   c T H (L + 1) of both models, the pictures, the mask c rows length^2
        block         one block is computed again in backward:
                      T [ (c + mask) sum in_t + c r (2 with a mixer) + c (8 H + 4 I) ], norms in float32: + 8 T H
        head          T V (c + 4 + 4 [+ 4]): logits, their float32 copy, the shifted copy, log-softmax
        dequantised   the largest layer's weights, c in x out, in 4 bits only
    """
    c, n = precision.compute, shard.processes
    trained = llm.trainable + visual.trainable + projector
    cut = n if shard.stage == 3 else 1
    tokens, positions = batch.rows * batch.length, batch.images * (batch.patches + 1)
    # prepare_model_for_kbit_training makes what is not quantised float32; DeepSpeed's half precision takes it back.
    rest = c if shard.stage or not precision.four_bits else 4
    body = NF4 * llm.linear + rest * (llm.parameters - llm.linear) if precision.four_bits else c * llm.parameters
    optimiser = 12 * trained / n if shard.stage else 8 * trained
    kept = c * tokens * llm.hidden * (llm.layers + 2) + c * positions * visual.hidden * (visual.layers + 2)
    kept += 4 * 3 * batch.edge**2 * batch.images + c * batch.rows * batch.length**2
    # Under ZeRO-3 the weights in use are gathered, up to a number that DeepSpeed is told.
    live = min(shard.live_parameters, llm.parameters + visual.parameters) if n > 1 else 0
    head_copies = 8 + c + (4 if c < 4 else 0)
    return Memory(
        weights=(body + c * visual.parameters) / cut,
        adapters=(c if shard.stage or c == 4 else 4) * trained / cut,
        gradients=(c if shard.stage or c == 4 else 4) * trained / (n if shard.stage >= 2 else 1),
        optimiser=optimiser,
        buckets=c * shard.bucket * (2 if shard.overlap else 1) + c * live,
        checkpoints=kept,
        block=tokens * _block(llm, precision, states=8, wide=4),
        head=tokens * llm.vocabulary * head_copies,
        visual_block=positions * _block(visual, precision, states=6, wide=3),
        dequantised=c * max((a.inputs * a.outputs for a in llm.adapted), default=0) if precision.four_bits else 0,
    )


def _block(part: Part, precision: Precision, states: int, wide: int) -> float:
    """Bytes for each token that one block keeps until its backward: `states` of width H and `wide` of width I."""
    c = precision.compute
    total = float(c * (states * part.hidden + wide * part.intermediate))
    if c < 4:
        total += 2 * 4 * part.hidden
    layers = part.widest
    dropped = [layer for layer in layers if layer.dropout]
    total += sum((c + precision.mask) * layer.inputs for layer in dropped)
    total += sum(c * width for width in _shared_inputs([layer for layer in layers if not layer.dropout]))
    return total + sum(c * layer.rank * (2 if layer.mixed else 1) for layer in layers)


def _shared_inputs(layers: list[Adapted]) -> list[int]:
    """Without dropout the layers that read the same tensor keep it once: q, k and v; gate and up."""
    readers = {_READS.get(layer.name.rsplit(".", 1)[-1], layer.name): layer.inputs for layer in layers}
    return list(readers.values())
