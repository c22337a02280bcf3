"""Which questions are answered together: of like length, with questions on one image side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moslora_xtuner.progress import note

from ..tasks.prompts import Question


def plan(questions: Sequence[Question], lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Places of the questions, batch by batch.

    Made of all questions of a benchmark, whatever is answered already: so a run that was interrupted, or goes on with
    another number of processes, answers each question in the same company and with the same rounding.

    Args:
        questions: all that are asked.
        lengths: of each prompt in tokens; only their order counts.
        batch_size: questions at a time.
    """
    keys = [question.image_key or f"{place}" for place, question in enumerate(questions)]
    longest: dict[str, int] = {}
    for key, length in zip(keys, lengths, strict=True):
        longest[key] = max(length, longest.get(key, 0))
    order = sorted(
        range(len(questions)),
        key=lambda i: (questions[i].max_new_tokens, longest[keys[i]], keys[i], lengths[i], i),
    )
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def within_memory(answer: Callable[[Sequence[Question]], list[str]], questions: Sequence[Question]) -> list[str]:
    """Answer questions at once; where the GPU's memory does not hold them, one half after the other."""
    import torch

    try:
        return answer(questions)
    except torch.OutOfMemoryError:
        half = len(questions) // 2
        if not half:
            raise
    note(f"{len(questions)} questions at a time are too many for the memory: answered {half} at a time")
    torch.cuda.empty_cache()
    return within_memory(answer, questions[:half]) + within_memory(answer, questions[half:])
