"""Greedy decoding of a batch of embedded prompts: what several begin with alike is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Prompt:
    """One prompt as embeddings: `start` (tokens, hidden), which prompts of the same `name` share, then `rest`.

    With LLaVA the start is all up to the end of the image, which is most of the prompt; "" names no start.
    """

    name: str
    start: torch.Tensor | None
    rest: torch.Tensor

    @property
    def whole(self) -> torch.Tensor:
        """All of it."""
        import torch

        return self.rest if self.start is None else torch.cat([self.start, self.rest])


def decode(
    model: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: Sequence[int],
    finished: Callable[[Sequence[int]], bool],
) -> list[list[int]]:
    """The tokens of each answer, y_t = argmax p(y | prompt, y_<t); rows that are done leave the batch at once.

    Where several prompts have one start, its keys and values are computed once and handed to each of them: a causal
    model gives a token the same ones whatever follows. Rows of different length are padded between start and rest.

    Args:
        model: a causal language model of transformers.
        prompts: of any length.
        max_new_tokens: of each answer.
        finished: whether an answer so far is the whole one.
    """
    import torch
    from transformers import DynamicCache

    cache: Any = DynamicCache()
    rows, begun = _prefill_starts(model, prompts, cache)
    longest, device = max(len(row) for row in rows), rows[0].device
    embeds = torch.zeros(len(rows), longest, rows[0].shape[-1], dtype=rows[0].dtype, device=device)
    mask = torch.zeros(len(rows), begun + longest, dtype=torch.long, device=device)
    mask[:, :begun] = 1
    for place, row in enumerate(rows):
        embeds[place, longest - len(row) :] = row
        mask[place, begun + longest - len(row) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, begun:]
    made: list[list[int]] = [[] for _ in rows]
    alive = list(range(len(rows)))
    inputs: dict[str, Any] = {"inputs_embeds": embeds}
    for _ in range(max(max_new_tokens)):
        output = model(
            **inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            num_logits_to_keep=1,
        )
        chosen = output.logits[:, -1].argmax(-1)
        for row_number, token in zip(alive, chosen.tolist(), strict=True):
            made[row_number].append(token)
        keep = [
            place for place, row in enumerate(alive) if not finished(made[row]) and len(made[row]) < max_new_tokens[row]
        ]
        if not keep:
            break
        if len(keep) < len(alive):
            alive = [alive[i] for i in keep]
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            mask, positions, chosen = mask[index], positions[index], chosen[index]
        inputs = {"input_ids": chosen[:, None]}
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return made


def _prefill_starts(model: Any, prompts: Sequence[Prompt], cache: Any) -> tuple[list[torch.Tensor], int]:
    """Fill the cache with the starts, a row a prompt; returns what is left of the prompts, and the starts' length.

    Nothing is shared, and all is left, where each prompt has its own start, or one has another length or none.
    """
    import torch

    starts = {prompt.name: prompt.start for prompt in prompts}
    shared = [start for start in starts.values() if start is not None]
    lengths = {len(start) for start in shared}
    if len(shared) < len(starts) or len(lengths) != 1 or len(starts) == len(prompts):
        return [prompt.whole for prompt in prompts], 0
    model(inputs_embeds=torch.stack(shared), past_key_values=cache, use_cache=True, num_logits_to_keep=1)
    order = {name: place for place, name in enumerate(starts)}
    cache.batch_select_indices(torch.tensor([order[prompt.name] for prompt in prompts], device=shared[0].device))
    return [prompt.rest for prompt in prompts], lengths.pop()
