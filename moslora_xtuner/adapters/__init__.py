"""MoSLoRA, TS-Mixing and LoRA on stock PEFT.

Importing this package registers it: get_peft_model and PeftModel.from_pretrained then take a
MosLoraConfig and a MOSLORA directory as they take any other. Nothing of XTuner is needed.
"""

from __future__ import annotations

from .attach import fuse
from .config import MosLoraConfig
from .directory.fold import fold_adapter, fold_state_dict
from .layer import MixedLinear, has_mixer
from .model import MosLoraModel
from .registration import register

__all__ = [
    "MixedLinear",
    "MosLoraConfig",
    "MosLoraModel",
    "fold_adapter",
    "fold_state_dict",
    "fuse",
    "has_mixer",
]

register()
