"""A language model's blocks and rim written one at a time, each computed before and after: a fault has a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.tokens.chat_templates import Template
from ..llm.families import INTERNLM2
from ..llm.internlm2_as_llama import llama_config, llama_names
from . import proof
from .llm import StreamedLlm
from .parts import Parts

ROWS = 8_192
HEAD = "lm_head.weight"
Add = Callable[[str, Tensor], None]


@dataclass(frozen=True)
class Written:
    """What an export came to.

    Attributes:
        dtype: the number type of its weights.
        base: `dequantised` or `original` where the training's base was quantised; "" where it was not.
        rounding: from what was trained to what stands on the disk.
        parameters: how many weights there are.
        prompts: how many records it was proved on, and whether they are the training's own.
    """

    dtype: torch.dtype
    base: str
    rounding: proof.Gap
    parameters: int
    prompts: int
    own_prompts: bool


def answers_of(llm: StreamedLlm, probes: Sequence[proof.Probe], shown: Sequence[Tensor | None]) -> list[Tensor]:
    """The logits at the answers' places of a model that is read a block at a time.

    Args:
        llm: as it stands on the disk, with the adapter beside it.
        probes: the records.
        shown: the features of each one's pictures; None where it has none.
    """
    states = [proof.embedded(llm, probe, found) for probe, found in zip(probes, shown, strict=True)]
    for number in range(llm.layers):
        states = llm.run(llm.block(number), states)
    return proof.logits_at_answers(llm, probes, states)


def prove(
    folder: Path,
    parts: Parts,
    llm: StreamedLlm,
    probes: list[proof.Probe],
    states: Mapping[str, list[Tensor]],
    on_disk: Callable[[], list[Tensor]],
    *,
    dtype: torch.dtype,
) -> proof.Gap:
    """Hold what was written against what was trained; returns how far rounding and another base took it.

    Args:
        folder: that was written.
        parts: of the run.
        llm: that it was written from.
        probes: the records.
        states: of `write_blocks`, of the last block.
        on_disk: reads the folder back, and gives the logits at the answers' places.
        dtype: of the weights that were written.

    Raises:
        ExportError: merging changed the model, or the folder holds something else than was to be written.
    """
    answers = {
        way: proof.logits_at_answers(llm, probes, found, dtype if way == "written" else None)
        for way, found in states.items()
    }
    if "merged" in answers:
        gap = proof.compare(answers["intended"], answers["merged"])
        proof.require(gap, proof.MERGED, f"{parts.llm_adapter} merged into {parts.llm} is not the two together")
    read = on_disk()
    proof.require(
        proof.compare(answers["written"], read), proof.READ_BACK, f"{folder} does not hold what was to be written"
    )
    return proof.compare(answers["trained"], read)


def became(parts: Parts, base: str) -> str:
    """What a quantised base became; "" where there was none."""
    return base if any(parts.record.bits.values()) and not parts.exported else ""


def write_blocks(
    llm: StreamedLlm,
    add: Add,
    states: dict[str, list[Tensor]],
    *,
    dtype: torch.dtype,
    base: str,
    merge: bool,
    under: str = "",
) -> dict[str, list[Tensor]]:
    """Write the blocks; returns what comes out of the last one.

    Of four models, so that a fault has a name: the `trained` one; the `intended` one, which has other weights where the
    base is the original or its layers round as they compute (8-bit ones what goes into them, 4-bit ones in half
    precision their weights, without a gradient otherwise than with one); that with the adapter `merged`; and
    that as it is `written`, rounded.

    Args:
        llm: with its adapter.
        add: takes each tensor with its name.
        states: what goes into the first block, of each of the four.
        dtype: of what is written.
        base: `dequantised` or `original`, where the training's was quantised.
        merge: put the adapter into the weights.
        under: what the names begin with.
    """
    plain = base if llm.quantisation is not None else "original"
    exact = llm.quantisation is None or (llm.quantisation.get("load_in_4bit") and llm.dtype in (None, torch.float32))
    same = exact and (llm.quantisation is None or base == "dequantised")
    trained, intended, merged, written = (states[way] for way in ("trained", "intended", "merged", "written"))
    same = same and all(a is b or torch.equal(a, b) for a, b in zip(trained, intended, strict=True))
    for number in range(llm.layers):
        block = llm.block(number)
        trained = llm.run(block, trained)
        if llm.quantisation is not None:
            block = llm.block(number, base=plain)
        intended = trained if same else llm.run(block, intended)
        if merge:
            block = llm.merged(block)
            merged = llm.run(block, merged)
        else:
            written = llm.run(llm.block(number, base=plain, rounded=dtype), written)
            block = llm.block(number, base=plain, tuned=False)
        weights = llm.block_weights(block)
        for weight in weights.values():
            weight.data = weight.data.to(dtype)
        for name, tensor in _as_llama(llm, weights).items():
            add(under + name, tensor)
        if merge:
            for weight in weights.values():
                weight.data = weight.data.float()
            written = llm.run(block, written)
    found = {"trained": trained, "intended": intended, "written": written}
    return found | ({"merged": merged} if merge else {})


def _as_llama(llm: StreamedLlm, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return llama_names(weights, llm.config) if llm.family == INTERNLM2 else dict(weights)


def write_rim(llm: StreamedLlm, add: Add, tokens: int, under: str = "", *, tied: bool = False) -> int:
    """Embedding, norm and head, with rows for the tokens that were added; returns how many rows there are.

    `tied`: the head is the embedding in what is written, too, and left out.
    """
    rows = 0
    for name, weight in _as_llama(llm, llm.rim()).items():
        if tied and name == HEAD:
            continue
        if weight.ndim == 2:
            weight = with_mean_rows(weight, tokens)
            rows = len(weight)
        add(under + name, weight)
    return rows


@torch.no_grad()
def with_mean_rows(weight: Tensor, rows: int) -> Tensor:
    """A matrix with more rows, each the mean of those that it had.

    A mean of logits is never above their largest, so greedy decoding cannot choose an added token.
    """
    have = len(weight)
    if rows <= have:
        return weight
    total = sum(weight[at : at + ROWS].float().sum(0) for at in range(0, have, ROWS))
    return torch.cat([weight, (torch.as_tensor(total) / have).to(weight.dtype).expand(rows - have, -1)])


def as_llama_config(llm: StreamedLlm, vocabulary: int, dtype: torch.dtype) -> Any:
    """The LlamaConfig of what is written."""
    from transformers import LlamaConfig

    config = llama_config(llm.config) if llm.family == INTERNLM2 else LlamaConfig.from_dict(llm.config.to_dict())
    config.vocab_size, config.torch_dtype = vocabulary, dtype
    return config


def without_traces(config: Any) -> Any:
    """The config without what `save_pretrained` would write of this machine and this process.

    WORK-AROUND transformers 4.48 (save_pretrained): it writes "attention was chosen", and a model that is loaded
    with that takes the slow eager one. Can go when config.json no longer holds it.
    """
    config._name_or_path = ""  # a path of this machine
    config._attn_implementation_autoset = False
    return config


def generation_config(tokenizer: Any, template: Template) -> Any:
    """With the tokens that end an answer."""
    from transformers import GenerationConfig

    stops = tokenizer.convert_tokens_to_ids(list(template.stop_words))
    return GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=sorted({tokenizer.eos_token_id, *stops}),
        bos_token_id=tokenizer.bos_token_id,
    )
