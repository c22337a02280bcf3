"""Where this package enters stock PEFT: two table entries and the marked lines.

The tables are PEFT's own way in. The marked lines stop what no subclass can: code of PEFT that
writes into `lora_B.weight` directly, where a mixed layer has only the product B M to show, and code that
changes the model before it knows whether the weights fit.
"""

from __future__ import annotations

from typing import Any

from peft import mapping, optimizers, peft_model
from peft.config import PeftConfigMixin
from peft.utils import PeftType, hotswap, loftq_utils
from torch import nn

from ..errors import AdapterError
from . import doors
from .config import DISK_TYPE, MosLoraConfig
from .disk import translate_authors
from .layer import has_mixer
from .model import MosLoraModel

_stock_hotswap = hotswap.hotswap_adapter_from_state_dict
# Not in peft 0.14, where only hot-swapping itself is to be stopped.
_stock_hotswap_preparation = getattr(hotswap, "prepare_model_for_compiled_hotswap", None)
_StockLoftqLoader = loftq_utils._SafetensorLoader
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


def _create_lorafa_optimizer(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if has_mixer(model):
        raise AdapterError(
            "LoRA-FA projects B's gradient by A alone, and takes every second parameter for B: it is wrong with a "
            "mixer between them; use another optimiser"
        )
    assert _stock_create_lorafa_optimizer is not None
    return _stock_create_lorafa_optimizer(model, *args, **kwargs)


@classmethod  # type: ignore[misc]
def _check_kwargs(cls: type[PeftConfigMixin], **kwargs: Any) -> dict[str, Any]:
    """PeftConfigMixin.check_kwargs, which returns what it gets, after the authors' flag is understood."""
    return translate_authors(kwargs)


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
    # They change the model before they read the weights; a directory that does not fit is told before.
    doors.stand_before_loaders()
    # An unknown key would be dropped with a warning, and the authors' adapters loaded without their mixers.
    PeftConfigMixin.check_kwargs = _check_kwargs  # type: ignore[assignment, method-assign]
