"""What of a model was trained, written as files: its adapters and a LLaVA's projector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from .artifacts import PROJECTOR


def write_parts(model: Any, folder: Path) -> None:
    """Write what of a model was trained: its adapters as PEFT directories, a LLaVA's projector.

    In the middle of a training too: nothing of the model is another afterwards.
    """
    from safetensors.torch import save_file

    parts = model.parts()
    for name, part in parts.items():
        if hasattr(part, "peft_config"):
            with _ranks_as_they_are(part):
                part.save_pretrained(folder / name)
    if PROJECTOR not in parts:
        return
    (folder / PROJECTOR).mkdir(parents=True)
    weights = {n: w.detach().cpu().contiguous() for n, w in parts[PROJECTOR].state_dict().items()}
    save_file(weights, folder / PROJECTOR / "model.safetensors", {"format": "pt"})


@contextmanager
def _ranks_as_they_are(part: Any) -> Iterator[None]:
    """While it lasts, PEFT may take AdaLoRA's ranks apart; it drops what its pattern leaves out, and renames that.

    Between two of its masks (deltaT > 1) what was left out has grown again and counts: then nothing is dropped.
    """
    configs = [config for config in part.peft_config.values() if getattr(config, "rank_pattern", None) is not None]
    kept = [(config, config.rank_pattern) for config in configs if str(config.peft_type).endswith("ADALORA")]
    for config, pattern in kept:
        config.rank_pattern = None if _has_grown(part, pattern) else dict(pattern)
    try:
        yield
    finally:
        for config, pattern in kept:
            config.rank_pattern = pattern


def _has_grown(part: Any, pattern: Any) -> bool:
    """Whether a rank that the pattern leaves out is not zero."""
    values = {name: weight for name, weight in part.named_parameters() if ".lora_E." in name}
    for name, weight in values.items():
        known = next((kept for key, kept in pattern.items() if _same(key, name)), None)
        if known is not None and any(not kept and bool(value != 0) for kept, value in zip(known, weight, strict=True)):
            return True
    return False


def _same(key: str, name: str) -> bool:
    """Whether a pattern's name, which PEFT may have cut short by the adapter's, is that of a weight."""
    return name.endswith(key) or name.rpartition(".")[0].endswith(key)


def whole(model: Any) -> AbstractContextManager[Any]:
    """While it lasts, what was trained is whole on every process."""
    cut = [p for p in model.parameters() if p.requires_grad and hasattr(p, "ds_id")]
    if not cut:
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(cut)
    return gathered
