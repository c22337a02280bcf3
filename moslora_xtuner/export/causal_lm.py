"""Write a tuned language model as a stock Hugging Face one, a piece at a time, and prove what stands on the disk."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..data.tokens.chat_templates import get_template
from ..training.artifacts import LLM
from . import proof
from .blocks import (
    Written,
    answers_of,
    as_llama_config,
    became,
    generation_config,
    prove,
    without_traces,
    write_blocks,
    write_rim,
)  # fmt: skip
from .llm import StreamedLlm
from .parts import Parts, number_type
from .processor import engine_tokenizer
from .shards import Shards


def write_causal_lm(
    folder: Path,
    parts: Parts,
    *,
    dtype: torch.dtype | None = None,
    base: str = "dequantised",
    adapter: Path | None = None,
) -> Written:
    """Write config, weights and tokenizer of a LlamaForCausalLM into a folder that is being made, and prove them.

    An InternLM2 is written as the LLaMA that it is. A head that is the embedding stays so.

    Args:
        folder: empty.
        parts: of the run.
        dtype: of the weights; by default that of the training.
        base: what a quantised base becomes: the weights that its layers computed with, or the `original` ones.
        adapter: the same adapter, written for this model to stand beside it: it is then not put into the weights.

    Raises:
        ExportError: what was written is not what was trained.
    """
    parts.require_same_bases()
    trained = number_type(parts, LLM)
    quantisation = parts.quantisation(LLM, needed=base != "original")
    llm = StreamedLlm(parts.llm, parts.llm_adapter, quantisation, trained)
    wanted = dtype or trained or llm.weights.get(f"{llm.norm}.weight").dtype
    template = get_template(parts.template)
    tokenizer = engine_tokenizer(parts.llm, template, parts.record.system, pictures=False)
    own = proof.read_probes(parts.probes)
    probes = proof.within_budget(own or proof.made_up_texts(tokenizer, template.instruction), patches=0)

    shards = Shards(folder)

    def add(name: str, tensor: Tensor) -> None:
        shards.add(name, tensor.detach().to(wanted))

    states = {
        way: [proof.embedded(llm, probe, None, wanted if way == "written" else None) for probe in probes]
        for way in ("trained", "intended", "merged", "written")
    }
    states = write_blocks(llm, add, states, dtype=wanted, base=base, merge=adapter is None)
    vocabulary = write_rim(llm, add, len(tokenizer), tied=llm.tied)
    shards.close()
    config = without_traces(as_llama_config(llm, vocabulary, wanted))
    config.tie_word_embeddings, config.architectures = llm.tied, ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    generation_config(tokenizer, template).save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    gap = prove(folder, parts, llm, probes, states, lambda: _answers_from_disk(folder, probes, adapter), dtype=wanted)
    return Written(wanted, became(parts, base), gap, shards.parameters, len(probes), bool(own))


def _answers_from_disk(folder: Path, probes: list[proof.Probe], adapter: Path | None) -> list[Tensor]:
    return answers_of(StreamedLlm(folder, adapter), probes, [None] * len(probes))
