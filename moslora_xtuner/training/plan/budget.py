"""What a budget of tokens means for a run: its micro-batches, counted as the training will cut them."""

from __future__ import annotations

from ...data.sampler import LengthGroupedSampler
from ...data.token_budget import places, steps_of
from ..micro_batches import require_global_mean
from .memory import Batch
from .outcome import Plan, Step


def schedule(plan: Plan, step: Step) -> None:
    """Micro-batches of the first epoch, and what they are filled with."""
    setting, store, budget = plan.setting, plan.store, plan.setting.max_tokens
    assert store is not None
    assert budget is not None
    step.attempt(lambda: require_global_mean(setting.config["train_cfg"].get("loss_mean", "micro_batch")))
    settings = setting.config["train_dataloader"]["sampler"]
    if not str(settings["type"]).endswith("LengthGroupedSampler"):
        step.wrong(
            f"max_tokens needs moslora_xtuner.data.sampler.LengthGroupedSampler, the sampler is {settings['type']}"
        )
        return
    share, alike = settings["per_device_batch_size"], setting.batch_size * setting.accumulation
    if share != alike:
        step.wrong(
            f"a GPU's share of a step is {share} records by train_dataloader.sampler.per_device_batch_size and {alike} "
            "by train_dataloader.batch_size x optim_wrapper.accumulative_counts: set them alike"
        )
    if store.longest > budget:
        step.wrong(
            f"the longest record has {store.longest:,} tokens with its pictures' places, max_tokens is {budget:,}: "
            "raise train_cfg.max_tokens, or prepare the store with a smaller --max-length"
        )
        return
    sampler = LengthGroupedSampler(
        store, share * setting.processes, "modality_lengths", settings.get("mega_batch_mult"), setting.seed
    )
    sizes = places(sampler, setting.image_tokens)
    counts, computed, real = [], 0, 0
    for parts in steps_of(sampler, sizes, budget, setting.processes):
        counts.append(len(parts) // setting.processes)
        computed += sum(len(part) * int(sizes[part].max()) for part in parts)
        real += sum(int(sizes[part].sum()) for part in parts)
    step.says(
        f"at most {budget:,} tokens a micro-batch: {min(counts)} to {max(counts)} of them a step on each process, "
        f"{sum(counts) / len(counts):.2f} on average; {100 * (1 - real / computed):.1f} % of their places are padding"
    )


def largest(plan: Plan, patches: int, edge: int) -> Batch:
    """The micro-batch that takes most: filled by the longest records, and by as many pictures as find places."""
    setting, store, budget = plan.setting, plan.store, plan.setting.max_tokens
    assert store is not None
    assert budget is not None
    share = setting.config["train_dataloader"]["sampler"].get("per_device_batch_size", setting.batch_size)
    pictures = min(budget // setting.image_tokens, share * setting.processes * store.most_images)
    return Batch(budget / store.longest, store.longest, pictures, patches, edge)
