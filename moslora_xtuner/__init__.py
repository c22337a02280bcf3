"""MoSLoRA for vision-language models on XTuner, PEFT, DeepSpeed and VLMEvalKit.

Importing this package is cheap: every public name below is loaded on first use, so that neither
torch nor the optional evaluation packages are imported before something needs them.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "MosLoraConfig": "moslora_xtuner.adapters.config",
    "MosLoraModel": "moslora_xtuner.adapters.model",
    "fold_adapter": "moslora_xtuner.adapters.directory.fold",
    "fuse": "moslora_xtuner.adapters.attach",
}
__all__ = ["MosLoraConfig", "MosLoraModel", "__version__", "fold_adapter", "fuse"]

if TYPE_CHECKING:
    from .adapters.attach import fuse
    from .adapters.config import MosLoraConfig
    from .adapters.directory.fold import fold_adapter
    from .adapters.model import MosLoraModel

# WORK-AROUND bitsandbytes 0.50 (backends/cpu/ops.py): on a processor with AVX512-BF16 its import, which is part of
# PEFT's, warns that a kernel for 4-bit layers is not there, whether or not anything is 4-bit. Can go when it warns
# where such a layer is used.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")
)


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(module), name)
