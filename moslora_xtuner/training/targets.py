"""Which layers adapters may sit on."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError


def useful_layers(select: int, layers: int) -> list[int]:
    """The layers whose output reaches the features.

    hidden_states has the embeddings first, so of n layers hidden_states[k] has gone through the first k (mod n + 1);
    an adapter behind them would never get a gradient.
    """
    return list(range(select % (layers + 1)))


def require_targets(config: Any, name: str) -> Any:
    """The adapter's config, if it names its layers.

    Raises:
        ConfigError: it leaves the search to XTuner.
    """
    if config.target_modules is None:
        raise ConfigError(
            f"{name} has no target_modules: name the layers (XTuner's search would also adapt InternLM2's head)"
        )
    return config


def require_quantisable(config: Any, name: str, bits: int | None) -> Any:
    """The adapter's config, if its method can sit on layers of so many bits.

    Raises:
        ConfigError: LoHa, LoKr and the like multiply the base's weight by itself, which packed weights do not allow.
    """
    from peft import LoraConfig

    if bits is not None and not isinstance(config, LoraConfig):
        raise ConfigError(
            f"{name}: {type(config).__name__} cannot sit on layers of {bits} bits (PEFT's LoRA, DoRA, AdaLoRA and "
            "MoSLoRA can): take quantization_config out, or take one of those"
        )
    return config


def require_fitting_rank(model: Any, name: str) -> None:
    """Stop when an adapter has more ranks than its layer has rows or columns: the rest could add nothing.

    Raises:
        ConfigError: names the first such layer.
    """
    from peft.tuners.lora import LoraLayer

    for where, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            for rank in layer.r.values():
                if rank > min(int(layer.in_features or 0), int(layer.out_features or 0)):
                    raise ConfigError(
                        f"{name}: rank {rank} is larger than the layer {where.removeprefix('base_model.model.')} "
                        f"({layer.in_features} to {layer.out_features}): lower r, or give it rank_pattern"
                    )
