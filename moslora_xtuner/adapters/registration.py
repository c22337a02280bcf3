"""Where this package enters stock PEFT: two table entries and three marked lines.

The tables are PEFT's own way in. The marked lines stop what no subclass can: code of PEFT that
writes into `lora_B.weight` directly, where a mixed layer has only the product B M to show.
"""

from __future__ import annotations

from typing import Any

from peft import mapping
from peft.config import PeftConfigMixin
from peft.utils import PeftType, hotswap, loftq_utils
from torch import nn

from ..errors import AdapterError
from .config import DISK_TYPE, MosLoraConfig
from .disk import translate_authors
from .layer import has_mixer
from .model import MosLoraModel

_stock_hotswap = hotswap.hotswap_adapter_from_state_dict
_stock_hotswap_preparation = hotswap.prepare_model_for_compiled_hotswap
_StockLoftqLoader = loftq_utils._SafetensorLoader


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
    return _stock_hotswap_preparation(model, *args, **kwargs)


class _LoftqLoader(_StockLoftqLoader):
    """The first thing replace_lora_weights_loftq makes from its model."""

    def __init__(self, peft_model: nn.Module, *args: Any, **kwargs: Any) -> None:
        _refuse_if_mixed(peft_model, "replace_lora_weights_loftq")
        super().__init__(peft_model, *args, **kwargs)


@classmethod  # type: ignore[misc]
def _check_kwargs(cls: type[PeftConfigMixin], **kwargs: Any) -> dict[str, Any]:
    """PeftConfigMixin.check_kwargs, which returns what it gets, after the authors' flag is understood."""
    return translate_authors(kwargs)


def register() -> None:
    """Make get_peft_model and PeftModel.from_pretrained know MosLoraConfig. Calling it again does nothing."""
    mapping.PEFT_TYPE_TO_TUNER_MAPPING[PeftType.LORA] = MosLoraModel
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[DISK_TYPE] = MosLoraConfig  # type: ignore[index]
    # peft.utils.hotswap and loftq_utils replace lora_B.weight in place; upstream has no hook for it.
    hotswap.hotswap_adapter_from_state_dict = _hotswap_adapter_from_state_dict
    hotswap.prepare_model_for_compiled_hotswap = _prepare_model_for_compiled_hotswap
    loftq_utils._SafetensorLoader = _LoftqLoader  # type: ignore[misc]
    # An unknown key would be dropped with a warning, and the authors' adapters loaded without their mixers.
    PeftConfigMixin.check_kwargs = _check_kwargs  # type: ignore[assignment, method-assign]
