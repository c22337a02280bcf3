"""Where this package enters stock PEFT: two table entries and the marked lines.

The tables are PEFT's own way in. The marked lines stop what no subclass can: code of PEFT that
writes into `lora_B.weight` directly, where a mixed layer has only the product B M to show, and code that
changes the model before it knows whether the weights fit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel, mapping, optimizers, peft_model
from peft.config import PeftConfigMixin
from peft.utils import PeftType, hotswap, loftq_utils
from torch import nn

from ..errors import AdapterError
from .config import DISK_TYPE, MosLoraConfig
from .disk import CONFIG_FILE, known_fields, translate_authors
from .layer import has_mixer
from .loading import check_directory
from .model import MosLoraModel

_stock_hotswap = hotswap.hotswap_adapter_from_state_dict
# Not in peft 0.14, where only hot-swapping itself is to be stopped.
_stock_hotswap_preparation = getattr(hotswap, "prepare_model_for_compiled_hotswap", None)
_StockLoftqLoader = loftq_utils._SafetensorLoader
_stock_from_pretrained = PeftModel.from_pretrained.__func__  # type: ignore[attr-defined]
_stock_load_adapter = PeftModel.load_adapter
_lorafa = getattr(optimizers, "lorafa", None)  # not in peft 0.14 either
_stock_create_lorafa_optimizer = getattr(_lorafa, "create_lorafa_optimizer", None)


def _refuse_if_mixed(model: nn.Module, what: str) -> None:
    if has_mixer(model):
        raise AdapterError(
            f"{what} would write B where a mixed layer keeps B and M apart, and change nothing: load the "
            "adapter under a new name with load_adapter, or fold it into a plain LoRA first"
        )


def _hotswap_adapter_from_state_dict(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    _refuse_if_mixed(model, "hot-swapping")
    return _stock_hotswap(model, *args, **kwargs)


def _prepare_model_for_compiled_hotswap(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    _refuse_if_mixed(model, "hot-swap preparation")
    assert _stock_hotswap_preparation is not None
    return _stock_hotswap_preparation(model, *args, **kwargs)


class _LoftqLoader(_StockLoftqLoader):
    """The first thing replace_lora_weights_loftq makes from its model."""

    def __init__(self, peft_model: nn.Module, *args: Any, **kwargs: Any) -> None:
        _refuse_if_mixed(peft_model, "replace_lora_weights_loftq")
        super().__init__(peft_model, *args, **kwargs)


@classmethod  # type: ignore[misc]
def _from_pretrained(cls: type[PeftModel], model: nn.Module, model_id: Any, *args: Any, **kwargs: Any) -> PeftModel:
    _check_directory(model, model_id, kwargs)
    return _stock_from_pretrained(cls, model, model_id, *args, **kwargs)


def _load_adapter(self: PeftModel, model_id: Any, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
    if adapter_name not in self.peft_config:  # else its layers are there already, and from_pretrained has checked
        _check_directory(self.get_base_model(), model_id, kwargs)
    return _stock_load_adapter(self, model_id, adapter_name, *args, **kwargs)


def _create_lorafa_optimizer(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if has_mixer(model):
        raise AdapterError(
            "LoRA-FA projects B's gradient by A alone, and takes every second parameter for B: it is wrong with a "
            "mixer between them; use another optimiser"
        )
    assert _stock_create_lorafa_optimizer is not None
    return _stock_create_lorafa_optimizer(model, *args, **kwargs)


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
    if "PEFT_TYPE_TO_MODEL_MAPPING" in vars(peft_model):  # peft 0.14 keeps a second table; can go with it
        peft_model.PEFT_TYPE_TO_MODEL_MAPPING[PeftType.LORA] = MosLoraModel
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[DISK_TYPE] = MosLoraConfig  # type: ignore[index]
    # peft.utils.hotswap and loftq_utils replace lora_B.weight in place; upstream has no hook for it.
    hotswap.hotswap_adapter_from_state_dict = _hotswap_adapter_from_state_dict
    if _stock_hotswap_preparation is not None:
        hotswap.prepare_model_for_compiled_hotswap = _prepare_model_for_compiled_hotswap
    loftq_utils._SafetensorLoader = _LoftqLoader  # type: ignore[misc]
    if _lorafa is not None:
        optimizers.create_lorafa_optimizer = _lorafa.create_lorafa_optimizer = _create_lorafa_optimizer
    # PEFT changes the model before it reads the weights; a directory that does not fit is told before.
    PeftModel.from_pretrained = _from_pretrained  # type: ignore[assignment, method-assign]
    PeftModel.load_adapter = _load_adapter  # type: ignore[method-assign]
    # An unknown key would be dropped with a warning, and the authors' adapters loaded without their mixers.
    PeftConfigMixin.check_kwargs = _check_kwargs  # type: ignore[assignment, method-assign]
