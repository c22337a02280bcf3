"""The validation records: a token store beside the training's, read as that is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.tokens.store import MANIFEST
from ..errors import ConfigError, DataError

OFF = (None, "", "none")
"""`data` of a hook that does nothing; the last is what a recipe's variable says when it is not set."""
HOOK = "moslora_xtuner.training.validation.hook.Validation"
CHECKPOINTS = "moslora_xtuner.training.checkpoints.save.Checkpoints"
_OF_THE_OTHER = ("store", "data_path")


def hook_of(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of a config's validation; None where there is none, or it is off."""
    hooks = [*(config.get("default_hooks") or {}).values(), *(config.get("custom_hooks") or ())]
    for hook in hooks:
        if isinstance(hook, Mapping) and str(hook.get("type")) == HOOK and hook.get("data") not in OFF:
            return hook
    return None


def interval_of(config: Mapping[str, Any], hook: Mapping[str, Any]) -> int:
    """Iterations between two validations: the hook's own, or those between two checkpoints of ours; -1 for none.

    mmengine's own hook may count epochs.
    """
    own = hook.get("interval")
    found = (config.get("default_hooks") or {}).get("checkpoint") or {}
    ours = str(found.get("type")) == CHECKPOINTS
    return int((found.get("interval") if ours else None) or -1) if own is None else int(own)


def dataset_settings(train: Mapping[str, Any], data: str) -> dict[str, Any]:
    """The training's dataset with other records.

    Args:
        train: `train_dataloader.dataset`.
        data: a store's folder, or what `moslora data prepare` reads, which is prepared into the user's cache then.

    Raises:
        ConfigError: the training's dataset is no TokenStore.
    """
    if "TokenStore" not in str(train.get("type")):
        raise ConfigError("validation needs train_dataloader.dataset of moslora_xtuner.data.dataset.TokenStore")
    rest = {name: value for name, value in train.items() if name not in _OF_THE_OTHER}
    return {**rest, "store" if is_store(data) else "data_path": str(data)}


def is_store(data: str) -> bool:
    """Whether this names a store, also one that is not there; a file, or a folder of `datasets`, is to be prepared."""
    path = Path(data)
    return (path / MANIFEST).is_file() or not (path.exists() or path.suffix in (".json", ".jsonl"))


def require_same_loss(train: Mapping[str, Any], validation: Mapping[str, Any]) -> None:
    """Stop where the loss stands on other places than in training; both are manifests of stores. Raises DataError."""
    one, other = (found.get("loss", "answer") for found in (train, validation))
    if one != other:
        raise DataError(
            f"the training's store has its loss on {one!r}, that of the validation on {other!r}: prepare it with "
            f"--loss {one}"
        )
