"""How much memory a training step needs on each GPU, counted from shapes.

The terms are what XTuner's LLaVA keeps alive with activation checkpointing; `tests/training/plan/test_memory.py`
holds their sum to the measured peak of real trainings on small models.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..loss_head import CHUNK_LOGITS
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
class Ways:
    """What a run does to keep less: the options of MosLoraLLaVA.

    Attributes:
        checkpointing: activation checkpointing at all.
        blocks: of the language model that are checkpointed, the first ones; None is all.
        fused, lean, masked: adapters as one function; MLPs that keep two inner tensors; a mask for attention.
        supervised: with the chunked loss, the most places of a micro-batch that carry a label; None without.
    """

    checkpointing: bool = True
    blocks: int | None = None
    fused: bool = False
    lean: bool = False
    masked: bool = True
    supervised: float | None = None

    def checkpointed(self, layers: int) -> int:
        """How many of the language model's blocks are computed again in backward."""
        if not self.checkpointing:
            return 0
        return layers if self.blocks is None else min(self.blocks, layers)


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, by what they are for. The parts that never live at once are in `peak` by their largest."""

    weights: float
    adapters: float
    gradients: float
    optimiser: float
    buckets: float
    checkpoints: float
    kept_blocks: float
    block: float
    head: float
    kept_visual: float
    visual_block: float
    dequantised: float
    update: float
    deltas: float = 0

    @property
    def static(self) -> float:
        """What stays from step to step."""
        return self.weights + self.adapters + self.optimiser

    @property
    def total(self) -> float:
        """The peak: the static part, and the larger of forward and backward, and the optimiser's update.

        Backward frees the kept blocks before it computes a checkpointed one again, and both before the visual encoder.
        """
        working = max(self.kept_blocks + max(self.head, self.dequantised), self.block + self.dequantised)
        working = self.kept_visual + max(working + self.deltas, self.visual_block)
        return self.static + self.buckets + max(self.gradients + self.checkpoints + working, self.update)

    def rows(self) -> list[tuple[str, float]]:
        """The terms by name, in bytes."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]


def estimate(
    llm: Part, visual: Part, projector: int, batch: Batch, precision: Precision, shard: Sharding, ways: Ways = Ways()
) -> Memory:
    """The memory of one GPU in bytes.

    Args:
        llm, visual: with their adapters.
        projector: its weights, all trained.
        batch: the largest micro-batch.
        precision, shard, ways: of the run.

    With c bytes a number, H, I, V, L the sizes of a model, T = rows x length its tokens, P_t the trained weights and
    N the processes::

        weights       c P, or 0.516 P for linear layers in 4 bits         under ZeRO-3 divided by N
        adapters      c P_t                                                under ZeRO-3 divided by N
        optimiser     (4 + 8) P_t / N: the float32 copy and Adam's moments (8 P_t without DeepSpeed)
        gradients     c P_t                                                under ZeRO-2 and 3 divided by N
        checkpoints   c T H (n + 2) of n checkpointed blocks of both models, the pictures, the mask c rows length^2
        kept blocks   the L - n others: T [ c (4 H + 3 I) + 8 H + inputs + c r (2 with a mixer) ], lean: 2 I
        block         one block is computed again in backward:
                      T [ inputs + c r (2 with a mixer) + c (8 H + 4 I) ], norms in float32: + 8 T H
        inputs        (c + mask) sum in_t; fused, or without dropout, c for each tensor that is read, once
        head          T V (c + 4 + 4 [+ 4]): logits, their float32 copy, the shifted copy, log-softmax; in chunks
                      of C logits C (4 [+ 2 c]), and 2 c H for each place with a label
        update        in float32 the gradients 4 P_t / N (with DeepSpeed) and AdamW's temporaries, as much (8 on a CPU)
        dequantised   the largest layer's weights, c in x out, in 4 bits only
        deltas        of methods that make a matrix of the base weight's size in each forward (LoHa, LoKr; DoRA for
                      its norm, which keeps none): c in x out of each layer of the kept blocks, or of one where all
                      are computed again, and four of the largest while it is made and its gradient is
    """
    c, n = precision.compute, shard.processes
    trained = llm.trainable + visual.trainable + projector
    cut = n if shard.stage == 3 else 1
    tokens, positions = batch.rows * batch.length, batch.images * (batch.patches + 1)
    # prepare_model_for_kbit_training makes what is not quantised float32; DeepSpeed's half precision takes it back.
    rest = c if shard.stage or not precision.four_bits else 4
    body = NF4 * llm.linear + rest * (llm.parameters - llm.linear) if precision.four_bits else c * llm.parameters
    optimiser = 12 * trained / n if shard.stage else 8 * trained
    again = ways.checkpointed(llm.layers)
    visual_again = visual.layers if ways.checkpointing and visual.trainable else 0
    kept = c * tokens * llm.hidden * (again + 2) + c * positions * visual.hidden * (visual_again + 2)
    kept += 4 * 3 * batch.edge**2 * batch.images + (c * batch.rows * batch.length**2 if ways.masked else 0)
    # Under ZeRO-3 the weights in use are gathered, up to a number that DeepSpeed is told.
    live = min(shard.live_parameters, llm.parameters + visual.parameters) if n > 1 else 0
    return Memory(
        weights=(body + c * visual.parameters) / cut,
        adapters=(c if shard.stage or c == 4 else 4) * trained / cut,
        gradients=(c if shard.stage or c == 4 else 4) * trained / (n if shard.stage >= 2 else 1),
        optimiser=optimiser,
        buckets=c * shard.bucket * (2 if shard.overlap else 1) + c * live,
        checkpoints=kept,
        kept_blocks=(llm.layers - again) * tokens * _kept(llm, precision, ways, wide=2 if ways.lean else 3),
        block=tokens * _block(llm, precision, ways, states=8, wide=4) if again else 0,
        head=_head(llm, tokens, c, ways.supervised),
        kept_visual=(visual.layers - visual_again) * positions * _kept(visual, precision, ways, wide=3)
        if visual.trainable
        else 0,
        visual_block=positions * _block(visual, precision, ways, states=6, wide=3),
        dequantised=c * max((a.inputs * a.outputs for a in llm.adapted), default=0) if precision.four_bits else 0,
        update=((4 if shard.stage else 0) + (4 if precision.mask == 1 else 8)) * trained / n,
        deltas=_deltas(llm, c, max(1, llm.layers - again)),
    )


def _deltas(llm: Part, c: int, blocks: int) -> float:
    """Bytes of whole matrices that adapters make: see `Adapted.dense`."""
    sizes = [layer.inputs * layer.outputs for layer in llm.widest if layer.dense]
    kept = [layer.inputs * layer.outputs for layer in llm.widest if layer.dense and layer.keeps]
    return c * (blocks * sum(kept) + 4 * max(sizes, default=0))


def _head(llm: Part, tokens: float, c: int, supervised: float | None) -> float:
    """Bytes of logits and loss; `supervised` places alone and some at a time, or all at once."""
    if supervised is None:
        return tokens * llm.vocabulary * (8 + c + (4 if c < 4 else 0))
    chunk = min(supervised * llm.vocabulary, CHUNK_LOGITS)
    return chunk * (4 + (2 * c if c < 4 else 0)) + 2 * c * supervised * llm.hidden


def _block(part: Part, precision: Precision, ways: Ways, states: int, wide: int) -> float:
    """Bytes for each token while one block is computed again: `states` of width H and `wide` of width I at most."""
    c = precision.compute
    total = float(c * (states * part.hidden + wide * part.intermediate))
    if c < 4:
        total += 2 * 4 * part.hidden
    return total + _adapters(part, precision, ways)


def _kept(part: Part, precision: Precision, ways: Ways, wide: int) -> float:
    """Bytes for each token that one block keeps for backward: queries, keys, values, what attention gives, two norms.

    The language model's norms keep their input in float32; keys and values are kept for each head that reads them.
    """
    norms = 4 if part.vocabulary else precision.compute
    total = 2 * norms * part.hidden + precision.compute * (4 * part.hidden + wide * part.intermediate)
    return total + _adapters(part, precision, ways)


def _adapters(part: Part, precision: Precision, ways: Ways) -> float:
    """Bytes for each token that the adapters of one block keep."""
    c, layers = precision.compute, part.widest
    dropped = [] if ways.fused else [layer for layer in layers if layer.dropout]
    total = float(sum((c + precision.mask) * layer.inputs for layer in dropped))
    total += sum(c * width for width in _shared_inputs([layer for layer in layers if layer not in dropped]))
    if ways.fused and precision.mask > 1:  # on a CPU: a bit for each element of a mask
        total += sum(layer.inputs for layer in layers if layer.dropout) / 8
    return total + sum(c * layer.rank * (2 if layer.mixed and not ways.fused else 1) for layer in layers)


def _shared_inputs(layers: list[Adapted]) -> list[int]:
    """Without dropout the layers that read the same tensor keep it once: q, k and v; gate and up."""
    readers = {_READS.get(layer.name.rsplit(".", 1)[-1], layer.name): layer.inputs for layer in layers}
    return list(readers.values())
