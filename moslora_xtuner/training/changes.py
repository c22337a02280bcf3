"""What options of `moslora train` change in a config, in every place that must follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.prepare_on_launch import store_of
from ..errors import ConfigError, UsageError
from ..recipes.catalogue import resolve_config
from .held_out import HOOK, is_store


def sizes(config: str, epochs: int | None = None, batch_size: int | None = None) -> list[str]:
    """`--epochs` and `--batch-size` as `key=value`.

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


def own_data(config: str, data: Sequence[str], images: Path | None) -> list[str]:
    """`--data` and `--images` as `key=value`: the data checked and tokenised now, so that the plan counts it.

    Args:
        config: a file or a recipe's name.
        data: as for `moslora data prepare`; kept in the user's cache, where the next launch finds it.
        images: the folder that image paths start from; the config's own when not given.

    Raises:
        ConfigError: the config's dataset is not a TokenStore.
        UsageError: images without data.
        DataError: a record is bad; the message names it.
    """
    if not data:
        if images is not None:
            raise UsageError("--images goes with --data: the recipe's own data has its folder in the config")
        return []
    store, folder = _prepared(config, list(data), images, "--data")
    return [f"train_dataloader.dataset.store={store}", f"train_dataloader.dataset.image_folder={folder.resolve()}"]


def validation_data(config: str, validation: str | None, images: Path | None) -> list[str]:
    """`--validation` as `key=value`: a store as it is, anything else prepared now, so that the plan looks at it.

    Args:
        config: a file or a recipe's name.
        validation: a token store, or what `moslora data prepare` reads.
        images: the folder that image paths start from; the config's own when not given.

    Raises:
        ConfigError: the config's dataset is not a TokenStore.
        DataError: a record is bad; the message names it.
    """
    if validation is None:
        return []
    data = validation if is_store(validation) else str(_prepared(config, [validation], images, "--validation")[0])
    # A copy of a recipe from before there was such a hook has none.
    return [f"default_hooks.validation.type={HOOK}", f"default_hooks.validation.data={data}"]


def _prepared(config: str, data: Sequence[str], images: Path | None, option: str) -> tuple[Path, Path]:
    """The store of records that are read as the config's own are, and the folder of their pictures."""
    from mmengine.config import Config

    dataset = Config.fromfile(resolve_config(config), import_custom_modules=False).train_dataloader.dataset
    if "TokenStore" not in str(dataset.get("type")):
        raise ConfigError(f"{config}: {option} needs a dataset of the type moslora_xtuner.data.dataset.TokenStore")
    folder = Path(dataset.get("image_folder", "")) if images is None else images
    how = (dataset.get("tokenizer"), dataset.get("template"))
    return store_of(list(data), folder, *how, loss=dataset.get("loss")), folder
