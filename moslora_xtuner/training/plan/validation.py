"""What a plan says of the validation: its records against the training's, how often, what it costs."""

from __future__ import annotations

from pathlib import Path

from ...data.tokens.store import TABLE, Table, read_manifest
from ..held_out import dataset_settings, hook_of, interval_of, require_same_loss
from . import checkpoints, costs
from .checkpoints import Store
from .outcome import Plan, Step

KEEP = {"best": "the adapter of the lowest loss is kept", "last": "the adapter of the last step is kept"}


def look(plan: Plan, step: Step) -> None:
    """The records, and how often they are looked at."""
    setting, config = plan.setting, plan.setting.config
    hook = hook_of(config)
    assert hook is not None
    if (keep := hook.get("keep", "last")) not in KEEP:
        step.wrong(f"default_hooks.validation.keep is {keep!r}: give best or last")
        return
    step.says(f"{_often(plan, interval_of(config, hook))}; {KEEP[keep]}")
    train = config["train_dataloader"]["dataset"]
    dataset = dataset_settings(train, hook["data"])
    if "data_path" in dataset:
        step.says(f"{hook['data']} is tokenised at the launch: give --validation to have it looked at and counted")
        return
    plan.validation = store = checkpoints.check_store(
        dataset, setting.image_tokens, plan.tokenizer, config["prompt_template"], plan.vocabulary
    )
    step.says(f"{hook['data']}: {store.records:,} records, {store.tokens:,} tokens, at most {store.longest:,} in one")
    if not store.most_supervised:
        step.wrong("no record has a place with a loss: give others")
    require_fitting(plan, step, store)
    if plan.store is not None:
        folders = [Path(train["store"]), Path(dataset["store"])]
        step.attempt(lambda: require_same_loss(*map(read_manifest, folders)))
        if both := trained_on(*(Table(folder / TABLE) for folder in folders)):
            step.says(f"{both:,} of these records are trained on as well: their loss says little")


def _often(plan: Plan, interval: int) -> str:
    """When there is a validation, and how many there are."""
    setting = plan.setting
    steps = 1 if setting.max_tokens is not None else setting.accumulation
    of_steps = f" ({interval / steps:g} steps)" if steps > 1 else ""
    said = f"every {interval:,} iterations{of_steps} and after the last one" if interval > 0 else "after the last step"
    if plan.store is None:
        return said
    count = costs.validations(plan)
    return f"{said}: {count:,} times" if count > 1 else f"{said}: once, there is nothing to choose from"


def require_fitting(plan: Plan, step: Step, store: Store) -> None:
    """Note what the model cannot read of a store: pictures without eyes, records that are too long."""
    if plan.setting.text_only and store.with_images:
        step.wrong(f"{store.with_images:,} records have pictures, which a text model cannot see: prepare without them")
    if plan.positions is not None and store.longest > plan.positions:
        step.wrong(
            f"the longest record has {store.longest:,} tokens with its pictures' places, the model takes "
            f"{plan.positions:,}: prepare with a smaller --max-length"
        )


def trained_on(train: Table, validation: Table) -> int:
    """How many of the validation's records are among the training's, word for word and with the same pictures."""

    def key(table: Table, row: int) -> tuple[bytes, tuple[str, ...]]:
        found = table.row(row)
        return found["input_ids"].tobytes(), tuple(found["images"])

    own = [key(validation, row) for row in range(len(validation))]
    lengths = set(validation.column("length").tolist())
    alike = (row for row, length in enumerate(train.column("length").tolist()) if length in lengths)
    seen = set(own) & {key(train, row) for row in alike}
    return sum(found in seen for found in own)
