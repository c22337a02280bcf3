"""`--epochs` and `--batch-size` as changes of a config, in every place that must follow."""

from __future__ import annotations

from ..errors import ConfigError
from ..recipes.catalogue import resolve_config


def sizes(config: str, epochs: int | None = None, batch_size: int | None = None) -> list[str]:
    """The `key=value` changes.

    Args:
        config: a file or a recipe's name.
        epochs: how often each record is seen.
        batch_size: records of a micro-batch; the sampler's groups of like length follow, which span a step.

    Raises:
        ConfigError: there is no such config, it counts in steps, or its micro-batches are cut by tokens.
    """
    if epochs is None and batch_size is None:
        return []
    from mmengine.config import Config

    found = Config.fromfile(resolve_config(config), import_custom_modules=False)
    made = []
    if epochs is not None:
        if found.train_cfg.get("max_iters") is not None:
            raise ConfigError(f"{config} counts in steps: give --cfg-options train_cfg.max_iters=N, not --epochs")
        made.append(f"train_cfg.max_epochs={epochs}")
    if batch_size is not None:
        if found.train_cfg.get("max_tokens") is not None:
            raise ConfigError(f"{config} cuts micro-batches by tokens (train_cfg.max_tokens): leave --batch-size out")
        made.append(f"train_dataloader.batch_size={batch_size}")
        if "per_device_batch_size" in found.train_dataloader.sampler:
            group = batch_size * int(found.optim_wrapper.get("accumulative_counts", 1))
            made.append(f"train_dataloader.sampler.per_device_batch_size={group}")
    return made
