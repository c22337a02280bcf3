"""MoSLoRA for vision-language models on XTuner, PEFT, DeepSpeed and VLMEvalKit.

Importing this package is cheap: every public name below is loaded on first use, so that neither
torch nor the optional evaluation packages are imported before something needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "MosLoraConfig": "moslora_xtuner.adapters.config",
    "MosLoraModel": "moslora_xtuner.adapters.model",
    "fold_adapter": "moslora_xtuner.adapters.fold",
}
__all__ = ["MosLoraConfig", "MosLoraModel", "__version__", "fold_adapter"]

if TYPE_CHECKING:
    from .adapters.config import MosLoraConfig
    from .adapters.fold import fold_adapter
    from .adapters.model import MosLoraModel


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(module), name)
