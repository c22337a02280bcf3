"""With what a run is trained, and what of it differs when it is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...data.images.content import pictures_sha256
from ...data.tokens.store import TABLE, Table
from ...errors import ConfigError
from ...hashing import kept_sha256
from ...llm.weights import content_of
from ..artifacts import LLM, VISUAL_ENCODER
from ..held_out import dataset_settings, hook_of, interval_of

_MODEL = ("llm_lora", "visual_encoder_lora", "freeze_llm", "freeze_visual_encoder", "visual_select_layer")
_LOOP = ("max_epochs", "max_iters", "max_tokens", "loss_mean")


def setting_of(config: Any, processes: int, accumulation: int) -> dict[str, Any]:
    """Everything that decides a run's losses, as a flat table of plain values.

    Args:
        config: mmengine's, as it is run.
        processes: of the whole run.
        accumulation: micro-batches of a step on each.
    """
    loader = config.train_dataloader
    found: dict[str, Any] = {
        "processes": processes,
        "train_dataloader.batch_size": loader.batch_size,
        "accumulation": accumulation,
        "seed": (config.get("randomness") or {}).get("seed"),
    }
    found |= {f"train_cfg.{name}": config.train_cfg.get(name) for name in _LOOP}
    found |= _flat("optim_wrapper.optimizer", config.optim_wrapper.optimizer)
    found |= _flat("optim_wrapper.clip_grad", config.optim_wrapper.get("clip_grad"))
    found |= _flat("param_scheduler", config.get("param_scheduler"))
    for name in _MODEL:
        found |= _flat(f"model.{name}", config.model.get(name))
    for part in ("llm", "visual_encoder"):
        settings = config.model.get(part)
        if isinstance(settings, Mapping):
            found |= _flat(f"model.{part}.quantization_config", settings.get("quantization_config"))
    found |= {f"base.{part}": content for part, content in bases(config).items()}
    dataset = loader.dataset
    found |= {
        **content_of_data(dataset),
        **{f"train_dataloader.dataset.{name}": dataset.get(name) for name in ("template", "pad_image_to_square")},
        **_flat("train_dataloader.sampler", loader.get("sampler")),
    }
    found |= validation_of(config)
    return json.loads(json.dumps(found, default=str))


def validation_of(config: Any) -> dict[str, Any]:
    """What decides a run's validation losses, and with them which adapter is kept; nothing where there are none."""
    hook = hook_of(config)
    if hook is None:
        return {}
    dataset = dataset_settings(config.train_dataloader.dataset, str(hook["data"]))
    content = content_of_data(dataset)
    if (file := Path(str(dataset.get("data_path", "")))).is_file():
        content = {"data": f"file {kept_sha256(file)}"}
    return {f"validation.{name}": value for name, value in {**content, "interval": interval_of(config, hook)}.items()}


def loaded_from(config: Any, part: str) -> str:
    """The checkpoint that a part was loaded from: of its own settings, which --cfg-options may have changed."""
    settings = config.model.get(part)
    path = settings.get("pretrained_model_name_or_path") if isinstance(settings, Mapping) else None
    return str(path or config[f"{part}_path"])


def bases(config: Any) -> dict[str, dict[str, str]]:
    """What the base models are, by their content; without a part that a config builds otherwise."""
    found = {}
    for part in (LLM, VISUAL_ENCODER):
        with suppress(ConfigError, OSError, KeyError, AttributeError):
            found[part] = _content(loaded_from(config, part))
    return found


_content = lru_cache(content_of)


def content_of_data(dataset: Any) -> dict[str, str]:
    """A token store by the content of its records and of their pictures; a dataset of another kind by its config."""
    store = dataset.get("store")
    if store is None or dataset.get("data_path") is not None or not (Path(str(store)) / "store.json").is_file():
        shown = {
            key: value for key, value in dataset.items() if key in ("type", "data_path", "max_length", "max_images")
        }
        return {"data": json.dumps(shown, default=str, sort_keys=True)}
    table = Path(str(store)) / TABLE
    if not table.is_file():
        return {"data": "a store without its table"}
    found = {"data": f"records {kept_sha256(table)}"}
    with suppress(OSError, ValueError):  # a damaged table: opening the store says so
        found["pictures"] = pictures_sha256(Path(str(dataset.get("image_folder", ""))), Table(table).pictures())
    return found


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {key: part for inner, item in value.items() for key, part in _flat(f"{name}.{inner}", item).items()}
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return {key: part for place, item in enumerate(value) for key, part in _flat(f"{name}.{place}", item).items()}
    return {} if value is None else {name: value}


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Each value that is another one, with both."""
    return [
        f"{name} was {_shown(before.get(name))}, is {_shown(now.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name) and not (name == "pictures" and name not in before)  # of earlier releases
    ]


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
    """Stop a run that would go on otherwise than it began. Raises ConfigError, naming every value."""
    changed = differences(before, now)
    if changed:
        cut = ", let `moslora reshard` cut it for as many processes" if _processes(before, now) else ""
        raise ConfigError(
            f"{checkpoint} is of a run with other settings: {'; '.join(changed)}. Repeat those to go on{cut}, or begin "
            "a new run from its weights, with a fresh optimiser: another --work-dir, and --cfg-options "
            f"load_from={checkpoint}"
        )


def _processes(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return bool(before.get("processes") != now.get("processes"))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
