"""The model that is trained, inside whatever the engines have put around it."""

from __future__ import annotations

from typing import Any


def unwrapped(model: Any) -> Any:
    """The LLaVA in mmengine's wrapper, which holds DeepSpeed's engine or a DistributedDataParallel, and that it."""
    while hasattr(model, "module") or (hasattr(model, "model") and not hasattr(model, "llm")):
        model = model.module if hasattr(model, "module") else model.model
    return model
