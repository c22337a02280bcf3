"""The tuner: PEFT's LoraModel, with a mixer attached to each layer that it makes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer, LoraModel
from peft.tuners.lora.variants import DoraLinearVariant
from peft.tuners.tuners_utils import _maybe_include_all_linear_layers
from torch import nn

from ..errors import AdapterError
from .attach import attach_mixer, detach_mixer
from .config import MosLoraConfig
from .directory.names import check_name
from .layer import MixedLayer, folded
from .loading.incoming import guard
from .mixer import ButterflyMixer, LearnedMixer, flora_factor, initial_mixer, mixer_generator
from .targets import check_targets


class MosLoraModel(LoraModel):
    """LoraModel that gives y = x W0^T + s B(M(A x)) to adapters with a MosLoraConfig.

    For adapters with a plain LoraConfig it is LoraModel, and both kinds may live in one model.

    Raises:
        AdapterError: a target is no Linear, Conv1D of transformers or quantised Linear; nothing is changed then.
    """

    _injected: tuple[str, Mapping[str, Any] | None] = ("default", None)
    """The adapter that is being put in: its name, and the weights that say where it goes."""

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """PEFT's inject_adapter; a MosLoraConfig that is refused keeps the targets that it came with."""
        config = self.peft_config[adapter_name]
        before = copy.deepcopy(vars(config)) if isinstance(config, MosLoraConfig) else None
        self._injected = (adapter_name, kwargs.get("state_dict"))
        try:
            super().inject_adapter(model, adapter_name, *args, **kwargs)
        except AdapterError:
            if before is not None:
                config.__dict__.update(before)
            raise
        finally:
            del self._injected

    def _check_new_adapter_config(self, config: LoraConfig) -> None:
        super()._check_new_adapter_config(config)
        configs = [config, *self.peft_config.values()]
        if any(getattr(each, "arrow_config", None) for each in configs) and any(map(_is_mixed, configs)):
            raise AdapterError("an Arrow router reads A and B of the other adapters and no mixer: fold those first")

    def _prepare_model(self, peft_config: LoraConfig, model: nn.Module) -> None:
        super()._prepare_model(peft_config, model)
        guard(model)
        if isinstance(peft_config, MosLoraConfig):
            # The last stop before layers are made: PEFT has rewritten the targets for this model, all but these.
            _maybe_include_all_linear_layers(peft_config, model)
            adapter_name, incoming = self._injected
            targeted = check_targets(self, peft_config, model, incoming)
            if not peft_config.inference_mode:
                check_name(adapter_name, targeted)

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
        detach_mixer(target, adapter_name)  # an adapter of this name is made anew
        super()._create_and_replace(
            lora_config, adapter_name, target, target_name, parent, current_key=current_key, **kwargs
        )
        if _is_mixed(lora_config):
            layer = getattr(parent, target_name)
            mixer = _build_mixer(lora_config, adapter_name, layer, current_key)
            attach_mixer(layer, adapter_name, mixer)
            if lora_config.use_dora and lora_config.init_lora_weights is False:
                # PEFT has taken the magnitude of W0 + s B A; with every other start B, or M, is zero.
                with folded(layer, [adapter_name]):
                    DoraLinearVariant.init(layer, adapter_name)
            if lora_config.mixer_init == "flora":
                _draw_flora_factors(adapter_name, layer, current_key)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype=autocast_adapter_dtype)
        for module in self.model.modules():
            if isinstance(module, MixedLayer) and adapter_name in module.lora_AB:
                lora_b: Any = module.lora_B[adapter_name]
                # Drawn in float32 and rounded only if the whole adapter stays in half precision.
                module.lora_AB[adapter_name].to(lora_b.weight.dtype)

    def add_weighted_adapter(self, adapters: list[str], *args: Any, **kwargs: Any) -> None:
        """Combine adapters into a new plain LoRA, reading each mixed one as its folded form B M."""
        configs = {name: self.peft_config[name] for name in adapters if name in self.peft_config}
        with folded(self, adapters):
            try:
                # The new adapter's config is made from the first one's; its factors are written, so it has no mixer.
                self.peft_config.update({n: c.to_lora_config() for n, c in configs.items() if _is_mixed(c)})
                super().add_weighted_adapter(adapters, *args, **kwargs)
            finally:
                self.peft_config.update(configs)


def _is_mixed(config: LoraConfig) -> TypeGuard[MosLoraConfig]:
    return isinstance(config, MosLoraConfig) and config.mixer != "identity"


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
        start = initial_mixer(config.mixer_init, r, mixer_generator(layer_name))
        mixer.weight.data.copy_(start)
    return mixer


def _draw_flora_factors(adapter_name: str, layer: LoraLayer, layer_name: str) -> None:
    """Draw A and B of a layer, both; the mixer between them is zero, so the model starts as the base."""
    generator = mixer_generator(layer_name)
    factors: tuple[nn.Parameter, nn.Parameter] = (
        layer.lora_A[adapter_name].weight,
        layer.lora_B[adapter_name].weight,
    )  # type: ignore[assignment]
    for factor in factors:
        if not factor.is_meta:
            rows, columns = factor.shape
            factor.data.copy_(flora_factor(rows, columns, generator))
