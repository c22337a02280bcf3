"""The tuner: PEFT's LoraModel, with a mixer attached to each layer that it makes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer, LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from ..errors import AdapterError
from .config import MosLoraConfig, stock_custom_modules
from .layer import MixedLinear, attach_mixer
from .loading import guard
from .mixer import ButterflyMixer, LearnedMixer, flora_factor, initial_mixer, mixer_generator


class MosLoraModel(LoraModel):
    """LoraModel that gives y = x W0^T + s B(M(A x)) to adapters with a MosLoraConfig.

    For adapters with a plain LoraConfig it is LoraModel, and both kinds may live in one model.

    Raises:
        AdapterError: a target is no (possibly 4- or 8-bit) Linear; nothing has been changed then.
    """

    def _prepare_model(self, peft_config: LoraConfig, model: nn.Module) -> None:
        super()._prepare_model(peft_config, model)
        guard(model)
        if isinstance(peft_config, MosLoraConfig) and not _means_all_linear(peft_config):
            self._check_targets(peft_config, model)

    def _check_targets(self, config: MosLoraConfig, model: nn.Module) -> None:
        adapted = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
        unfit = []
        for name, module in model.named_modules():
            inside_adapter = any(name.startswith(f"{layer}.") for layer in adapted)
            if not name or inside_adapter or not self._check_target_module_exists(config, name):
                continue
            base = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
            if not isinstance(base, nn.Linear) or isinstance(base, NonDynamicallyQuantizableLinear):
                unfit.append(f"{name} ({type(base).__name__})")
        if unfit:
            raise AdapterError(
                "a mixer fits Linear layers (also 4- and 8-bit ones), and target_modules matches others: "
                f"{', '.join(unfit)}; name the Linear layers inside them"
            )

    def _create_and_replace(  # type: ignore[override]
        self,
        lora_config: LoraConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        super()._create_and_replace(
            lora_config, adapter_name, target, target_name, parent, current_key=current_key, **kwargs
        )
        layer = getattr(parent, target_name)
        if isinstance(lora_config, MosLoraConfig) and lora_config.mixer != "identity":
            mixer = _build_mixer(lora_config, adapter_name, layer, current_key)
            attach_mixer(layer, adapter_name, mixer)
            if lora_config.mixer_init == "flora":
                _draw_flora_factors(adapter_name, layer, current_key)
        elif adapter_name in getattr(layer, "lora_AB", {}):
            # An adapter of this name had a mixer, and PEFT has just replaced its lora_B by a plain one.
            del layer.lora_AB[adapter_name]

    @staticmethod
    def _create_new_module(lora_config: LoraConfig, adapter_name: str, target: nn.Module, **kwargs: Any) -> nn.Module:
        if isinstance(lora_config, MosLoraConfig):
            # This tuner attaches the mixer itself, so the guard against the others steps aside.
            custom_modules = stock_custom_modules(lora_config)
            lora_config = copy.copy(lora_config)
            lora_config._custom_modules = custom_modules
        return LoraModel._create_new_module(lora_config, adapter_name, target, **kwargs)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype=autocast_adapter_dtype)
        for module in self.model.modules():
            if isinstance(module, LoraLayer) and adapter_name in module.lora_B:
                lora_b = module.lora_B[adapter_name]
                if isinstance(lora_b, MixedLinear):
                    # Drawn in float32 and rounded only if the whole adapter stays in half precision.
                    lora_b.mixer.to(lora_b.factor.dtype)

    def add_weighted_adapter(self, adapters: list[str], *args: Any, **kwargs: Any) -> None:
        """Combine adapters into a new plain LoRA, reading each mixed one as its folded form B M."""
        first = adapters[0] if adapters else ""
        config = self.peft_config.get(first)
        if not isinstance(config, MosLoraConfig):
            super().add_weighted_adapter(adapters, *args, **kwargs)
            return
        # The new adapter's config is made from the first one's; its factors are written, so it has no mixer.
        self.peft_config[first] = config.to_lora_config()
        try:
            super().add_weighted_adapter(adapters, *args, **kwargs)
        finally:
            self.peft_config[first] = config


def _means_all_linear(config: LoraConfig) -> bool:
    return isinstance(config.target_modules, str) and config.target_modules.lower() == "all-linear"


def _build_mixer(
    config: MosLoraConfig, adapter_name: str, layer: LoraLayer, layer_name: str
) -> LearnedMixer | ButterflyMixer:
    """Make one layer's mixer, on the device of its B and in float32 (B's dtype if that is wider)."""
    r = layer.r[adapter_name]
    if config.mixer == "butterfly":
        return ButterflyMixer(r)
    factor: nn.Parameter = layer.lora_B[adapter_name].weight  # type: ignore[assignment]
    dtype = torch.promote_types(factor.dtype, torch.float32)
    mixer = LearnedMixer(r, frozen=config.freeze_mixer, dtype=dtype, device=factor.device)
    if not mixer.weight.is_meta:
        assert config.mixer_init is not None  # MosLoraConfig sets it for a learned mixer
        start = initial_mixer(config.mixer_init, r, mixer_generator(layer_name, adapter_name))
        mixer.weight.data.copy_(start)
    return mixer


def _draw_flora_factors(adapter_name: str, layer: LoraLayer, layer_name: str) -> None:
    """Draw A and B of a layer, both; the mixer between them is zero, so the model starts as the base."""
    generator = mixer_generator(layer_name, adapter_name)
    factors: tuple[nn.Parameter, nn.Parameter] = (
        layer.lora_A[adapter_name].weight,
        layer.lora_B[adapter_name].factor,
    )  # type: ignore[assignment]
    for factor in factors:
        if not factor.is_meta:
            rows, columns = factor.shape
            factor.data.copy_(flora_factor(rows, columns, generator))
