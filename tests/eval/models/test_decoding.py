"""Greedy decoding in batches: transformers' own answers in float64, and what prompts share computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from moslora_xtuner.eval.models.decoding import Prompt, decode

END = 3


def make_model() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=40, num_key_value_heads=2, initializer_range=0.5, eos_token_id=END, **sizes)
    return LlamaForCausalLM(config).double().eval()


MODEL = make_model()
TABLE = MODEL.get_input_embeddings()


def prompt(name: str, start: Sequence[int] | None, rest: Sequence[int]) -> Prompt:
    with torch.inference_mode():
        embedded = [None if ids is None else TABLE(torch.tensor(ids)) for ids in (start, rest)]
    assert embedded[1] is not None
    return Prompt(name, embedded[0], embedded[1])


@torch.inference_mode()
def answers(prompts: Sequence[Prompt], longest: Sequence[int]) -> list[list[int]]:
    return decode(MODEL, prompts, longest, lambda made: made[-1] == END)


@torch.inference_mode()
def generated(ids: Sequence[int], longest: int) -> list[int]:
    """What transformers says to one prompt alone."""
    tokens = torch.tensor([ids])
    mask = torch.ones_like(tokens)
    made = MODEL.generate(tokens, attention_mask=mask, do_sample=False, max_new_tokens=longest, pad_token_id=0)
    return list(made[0, len(ids) :].tolist())


IDS = st.lists(st.integers(4, 39), min_size=1, max_size=9)


@settings(max_examples=40, deadline=None)
@given(starts=st.lists(IDS, min_size=1, max_size=3), same=st.booleans(), data=st.data())
def test_each_answer_is_the_one_to_its_prompt_alone(starts: list[list[int]], same: bool, data: st.DataObject) -> None:
    """Shared starts of one length or of several, rests of any length, rows without a start, limits of their own."""
    if same:
        starts = [start[: min(map(len, starts))] for start in starts]
    places = data.draw(st.lists(st.integers(-1 if not same else 0, len(starts) - 1), min_size=1, max_size=6))
    rests = data.draw(st.lists(IDS, min_size=len(places), max_size=len(places)))
    longest = data.draw(st.lists(st.integers(1, 6), min_size=len(places), max_size=len(places)))
    prompts = [
        prompt(f"{place}" if place >= 0 else "", starts[place] if place >= 0 else None, rest)
        for place, rest in zip(places, rests, strict=True)
    ]
    wanted = [
        generated([*(starts[place] if place >= 0 else ()), *rest], limit)
        for place, rest, limit in zip(places, rests, longest, strict=True)
    ]
    assert answers(prompts, longest) == wanted


@pytest.mark.parametrize(
    ("names", "positions"),
    [
        ("aaabb", 2 * 8 + 5 * 3),  # two starts of 8, then five rests padded to 3
        ("abcde", 5 * 11),  # nothing to share: whole prompts
        ("aab-", 4 * 11),  # one has no start: whole prompts
    ],
)
def test_what_is_shared_is_computed_once(names: str, positions: int) -> None:
    starts = {name: [4 + ord(name) % 30] * 8 for name in names if name != "-"}
    prompts = [
        prompt("" if name == "-" else name, starts.get(name), [5, 6, 7][: 1 + place % 3])
        for place, name in enumerate(names)
    ]
    seen: list[int] = []

    def count(module: Any, arguments: Any, output: Any) -> None:
        seen.append(output[0].shape[0] * output[0].shape[1])

    hook = MODEL.model.layers[0].register_forward_hook(count)
    try:
        answers(prompts, [1] * len(names))
    finally:
        hook.remove()
    assert sum(seen) == positions
