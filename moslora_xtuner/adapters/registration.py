"""Where this package enters stock PEFT. What is replaced, why, and when it can go:

| what | why | until |
|---|---|---|
| two entries of PEFT's tables of tuners and configs | PEFT's own way in | always |
| `from_pretrained`, two `load_adapter` (loading/doors.py) | they change the model, then read | PEFT reads first |
| `PeftConfigMixin.check_kwargs` | it drops the authors' flag, and their mixers with it | PEFT has a hook for it |
| seven functions of PEFT, behind a check (guards.py) | they take A and B for all there is | they ask the variant |

Stock LoRA goes through all of them as before.
"""

from __future__ import annotations

from typing import Any

from peft import mapping
from peft.config import PeftConfigMixin
from peft.utils import PeftType

from .config import DISK_TYPE, MosLoraConfig
from .directory.disk import translate_authors
from .guards import guard_stock
from .loading import doors
from .model import MosLoraModel


@classmethod  # type: ignore[misc]
def _check_kwargs(cls: type[PeftConfigMixin], **kwargs: Any) -> dict[str, Any]:
    """PeftConfigMixin.check_kwargs, which returns what it gets, after the authors' flag is understood."""
    return translate_authors(kwargs)


def register() -> None:
    """Make get_peft_model and PeftModel.from_pretrained know MosLoraConfig. Calling it again does nothing."""
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[PeftType.LORA] = MosLoraModel
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[DISK_TYPE] = MosLoraConfig  # type: ignore[index]
    guard_stock()
    doors.stand_before_loaders()
    PeftConfigMixin.check_kwargs = _check_kwargs  # type: ignore[assignment, method-assign]
