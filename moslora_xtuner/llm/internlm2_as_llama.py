"""An InternLM2 rewritten, number for number, as the LLaMA that it is, so that engines serve it without remote code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import ExportError

NAMES = {
    "model.tok_embeddings": "model.embed_tokens",
    "output": "lm_head",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def split_wqkv(fused: Tensor, heads: int, key_value_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Take the fused projection apart.

    Its rows are grouped by key-value head: of each group first the queries that share the key, then the key,
    then the value, each of h = rows / (heads + 2 key_value_heads) rows.

    Args:
        fused: (rows, ...), weight or bias.
        heads: query heads.
        key_value_heads: key and value heads.

    Returns:
        The rows of q, k and v in LLaMA's order.
    """
    shared = heads // key_value_heads
    size = fused.shape[0] // (heads + 2 * key_value_heads)
    groups = fused.unflatten(0, (key_value_heads, shared + 2, size))
    return groups[:, :shared].flatten(0, 2), groups[:, -2].flatten(0, 1), groups[:, -1].flatten(0, 1)


def llama_config(config: Any) -> Any:
    """The LlamaConfig of an InternLM2's.

    Raises:
        ExportError: the model has a field that LLaMA has no word for.
    """
    from transformers import LlamaConfig

    scaling = config.rope_scaling
    if config.tie_word_embeddings:
        raise ExportError("InternLM2 with tied embeddings cannot be written as LLaMA: no such model is known")
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        hidden_act=config.hidden_act,
        max_position_embeddings=config.max_position_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        rope_theta=config.rope_theta,
        rope_scaling=scaling and {"rope_type": scaling["type"], "factor": float(scaling["factor"])},
        attention_bias=config.bias,
        tie_word_embeddings=False,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


def llama_names(state: Mapping[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Weights of an InternLM2 under LLaMA's names, the fused projection in three; a part of them as well as all."""
    renamed = {}
    for name, value in state.items():
        for old, new in NAMES.items():
            name = new + name.removeprefix(old) if name.startswith(old + ".") else name.replace(f".{old}.", f".{new}.")
        if ".attention.wqkv." in name:
            parts = split_wqkv(value, config.num_attention_heads, config.num_key_value_heads)
            for letter, part in zip("qkv", parts, strict=True):
                renamed[name.replace("attention.wqkv", f"self_attn.{letter}_proj")] = part.contiguous()
        else:
            renamed[name] = value
    return renamed
