"""Whether a checkpoint has every weight that its model wants: what is missing, transformers draws at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .weights import Weights

_SHOWN = 3


def require_whole(checkpoint: str | Path, model: Any, local_files_only: bool = False) -> int:
    """Hold a checkpoint's files against the model that is, or is to be, loaded from it; reads their headers alone.

    Args:
        checkpoint: a folder or a hub id.
        model: built of it, loaded or on the meta device; then shapes are compared, too.
        local_files_only: download nothing.

    Returns:
        In how many files the weights are.

    Raises:
        ConfigError: a file is missing, cut or of another kind, or weights that the model has are in none, or are of
            other shapes.
    """
    weights = Weights(checkpoint, local_files_only)
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if model.config.tie_word_embeddings else set()
    prefix = f"{model.base_model_prefix}."
    missing, shapes = [], []
    for name, wanted in model.named_parameters():
        # A checkpoint of the model's body alone, or of one around it, as `from_pretrained` takes them.
        stored = next((n for n in (name, name.removeprefix(prefix), prefix + name) if n in weights), None)
        if stored is None:
            missing.extend([] if name in tied else [name])
        elif wanted.is_meta and weights.shape(stored) != tuple(wanted.shape):
            shapes.append(f"{stored} is {weights.shape(stored)} and not {tuple(wanted.shape)}")
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ConfigError(
            f"{checkpoint} lacks weights of a {type(model).__name__}: {', '.join(missing[:_SHOWN])}{more}; they would "
            "be drawn at random: download it again"
        )
    if shapes:
        raise ConfigError(f"{checkpoint} does not fit its config.json: {'; '.join(shapes[:_SHOWN])}")
    return weights.files
