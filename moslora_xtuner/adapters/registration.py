"""Where this package enters stock PEFT: two table entries and the marked lines.

The tables are PEFT's own way in. The marked lines stop what no subclass can: code of PEFT that
writes into `lora_B.weight` directly, where a mixed layer has only the product B M to show, and code that
changes the model before it knows whether the weights fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel, mapping
from peft.config import PeftConfigMixin
from peft.utils import PeftType
from torch import nn

from .config import DISK_TYPE, MosLoraConfig
from .disk import CONFIG_FILE, known_fields, translate_authors
from .guards import guard_stock
from .loading import check_directory
from .model import MosLoraModel

_stock_from_pretrained = PeftModel.from_pretrained.__func__  # type: ignore[attr-defined]
_stock_load_adapter = PeftModel.load_adapter


@classmethod  # type: ignore[misc]
def _from_pretrained(cls: type[PeftModel], model: nn.Module, model_id: Any, *args: Any, **kwargs: Any) -> PeftModel:
    _check_directory(model, model_id, kwargs)
    return _stock_from_pretrained(cls, model, model_id, *args, **kwargs)


def _load_adapter(self: PeftModel, model_id: Any, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
    if adapter_name not in self.peft_config:  # else its layers are there already, and from_pretrained has checked
        _check_directory(self.get_base_model(), model_id, kwargs)
    return _stock_load_adapter(self, model_id, adapter_name, *args, **kwargs)


def _check_directory(model: nn.Module, model_id: Any, options: dict[str, Any]) -> None:
    """Before PEFT puts layers into the model, which it does before it looks at the weights."""
    folder = Path(model_id, options.get("subfolder") or "")
    # Keys that are to be renamed, and a config that is not the directory's, are checked when the weights come in.
    renamed = options.get("key_mapping") is not None or options.get("config") is not None
    if not renamed and (folder / CONFIG_FILE).is_file():
        check_directory(model, folder)


@classmethod  # type: ignore[misc]
def _check_kwargs(cls: type[PeftConfigMixin], **kwargs: Any) -> dict[str, Any]:
    """PeftConfigMixin.check_kwargs, which returns what it gets, after the authors' flag is understood."""
    kwargs = translate_authors(kwargs)
    return known_fields(kwargs) if kwargs.get("peft_type") == DISK_TYPE else kwargs


def register() -> None:
    """Make get_peft_model and PeftModel.from_pretrained know MosLoraConfig. Calling it again does nothing."""
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[PeftType.LORA] = MosLoraModel
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[DISK_TYPE] = MosLoraConfig  # type: ignore[index]
    guard_stock()
    # PEFT changes the model before it reads the weights; a directory that does not fit is told before.
    PeftModel.from_pretrained = _from_pretrained  # type: ignore[assignment, method-assign]
    PeftModel.load_adapter = _load_adapter  # type: ignore[method-assign]
    # An unknown key would be dropped with a warning, and the authors' adapters loaded without their mixers.
    PeftConfigMixin.check_kwargs = _check_kwargs  # type: ignore[assignment, method-assign]
