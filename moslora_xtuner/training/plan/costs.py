"""What a run costs: steps, memory of a GPU, host and disk, time."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Callable

from ..held_out import hook_of, interval_of
from ..schedule import warmup_steps
from . import budget, checkpoints
from .memory import GIB, Batch, Memory, estimate
from .outcome import Plan, Step

FILLED = 0.9
"""Of a GPU's memory, what the estimate may reach where the plan chooses; it leaves out CUDA's context and fragments."""
ACHIEVED_TFLOPS = 125.0
"""What one GPU is taken to compute in training: 40 % of an A100's 312. An assumption, not a measurement."""


def schedule(plan: Plan, step: Step) -> None:
    """Records of a step, steps, warm-up."""
    if plan.store is None:
        step.says("not counted: it depends on the token store")
        return
    setting, config = plan.setting, plan.setting.config
    batch, accumulation, n = setting.batch_size, setting.accumulation, setting.processes
    steps = optimiser_steps(plan)
    scheduler = config["param_scheduler"]
    warmup = scheduler.get("warmup_steps") or warmup_steps(scheduler.get("warmup_ratio", 0), steps)
    if setting.max_tokens is None:
        step.says(f"{batch} a micro-batch x {accumulation} x {n} processes = {batch * accumulation * n} records a step")
    else:
        step.says(f"{batch * accumulation} x {n} processes = {batch * accumulation * n} records a step")
        budget.schedule(plan, step)
    step.says(f"{steps:,} steps, {warmup} of them warm-up; rate {config['optim_wrapper']['optimizer']['lr']:g}")
    if steps <= warmup:
        fewer = ", or lower param_scheduler.warmup_steps" if "warmup_steps" in scheduler else ""
        step.wrong(f"{steps} steps: warm-up alone takes {warmup}; lower the batch or give more records{fewer}")
    group = config["train_dataloader"]["sampler"].get("per_device_batch_size")
    if setting.max_tokens is None and group is not None and group != batch * accumulation:
        step.says(
            f"records are grouped by length in {group}s, a GPU's share of a step is {batch * accumulation}: "
            "set train_dataloader.sampler.per_device_batch_size alike"
        )


def optimiser_steps(plan: Plan) -> int:
    """The run's optimiser steps."""
    return math.ceil(iterations(plan) / (1 if plan.setting.max_tokens is not None else plan.setting.accumulation))


def iterations(plan: Plan) -> int:
    """The run's micro-batches on one process; with `max_tokens` its steps, which are one iteration each."""
    assert plan.store is not None
    setting, loop = plan.setting, plan.setting.config["train_cfg"]
    group = setting.config["train_dataloader"]["sampler"].get("per_device_batch_size", 1)
    # XTuner's sampler fills up to whole groups on every process.
    share = math.ceil(plan.store.records / (group * setting.processes)) * group
    if setting.max_tokens is not None:  # an iteration is a step
        return int(loop.get("max_iters") or loop.get("max_epochs", 1) * share // group)
    each = math.ceil(share / setting.batch_size)
    return int(loop.get("max_iters") or loop.get("max_epochs", 1) * each)


def memory(plan: Plan, step: Step) -> None:
    """The estimate at the longest records, against the GPU."""
    if plan.llm is None or plan.visual is None or plan.store is None:
        step.says("not estimated: it depends on the models and the token store")
        return
    setting = plan.setting
    patches, edge = _pictures(plan)
    if setting.max_tokens is None:
        images = setting.batch_size * plan.store.most_images
        batch, filled = Batch(setting.batch_size, plan.store.longest, images, patches, edge), str(setting.batch_size)
        less = "lower train_dataloader.batch_size (and raise optim_wrapper.accumulative_counts)"
    else:
        batch, filled = budget.largest(plan, patches, edge), f"{setting.max_tokens:,} tokens"
        less = "lower train_cfg.max_tokens"
    room = setting.gpu_memory or (_memory_here() if setting.on_gpu else None)

    def at(blocks: int | None) -> Memory:
        ways = setting.ways(batch.rows * store.most_supervised, blocks)
        return estimate(llm, visual, plan.projector, batch, setting.precision, setting.sharding, ways)

    llm, visual, store = plan.llm, plan.visual, plan.store
    fewest = llm.layers if room is None else fewest_blocks(at, llm.layers, room * GIB)
    if room is not None and setting.leaves_blocks_to_the_plan:
        plan.checkpointed_blocks = fewest
    plan.memory = needed = at(plan.checkpointed_blocks)
    terms = ", ".join(
        f"{name.replace('_', ' ')} {gib(size)}" for name, size in needed.rows() if size >= 0.005 * needed.total
    )
    step.says(f"about {gib(needed.total)} GiB at {filled} of the longest records (GiB: {terms})")
    if plan.checkpointed_blocks is not None:
        step.says(f"{plan.checkpointed_blocks} of {llm.layers} blocks are computed again in backward, the others kept")
    elif (now := setting.ways(0).checkpointed(llm.layers)) > fewest:
        saved = (now - fewest) / (2 * llm.layers + now)
        step.says(
            f"{now} of {llm.layers} blocks are computed again in backward, {fewest} would do: "
            f"model.checkpointed_blocks=plan saves {100 * saved:.0f} % of the language model's operations"
        )
    if room is None:
        step.says("no GPU to ask here: give --gpu-memory GIB to compare with one")
    elif needed.total > room * GIB:
        step.wrong(f"a GPU has {room:g} GiB: {less}, or take a recipe in 4 bits")
    else:
        step.says(f"a GPU has {room:g} GiB")


def _pictures(plan: Plan) -> tuple[int, int]:
    """Patches of a picture, and its edge in pixels."""
    if plan.setting.text_only:
        return 0, 0
    settings = plan.setting.config["model"]["visual_encoder"]
    encoder = checkpoints.visual_config(settings["pretrained_model_name_or_path"])
    return (encoder.image_size // encoder.patch_size) ** 2, encoder.image_size


def fewest_blocks(at: Callable[[int], Memory], layers: int, room: float) -> int:
    """The fewest checkpointed blocks with which a run fits into `room` bytes with some to spare; all if none does."""
    return next((blocks for blocks in range(layers) if at(blocks).total <= FILLED * room), layers)


def _memory_here() -> float | None:
    """GiB of this machine's smallest GPU, asked of the driver: a CUDA context of our own would take some of it."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
        return min(float(line) for line in said.split()) / 1024
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def host(plan: Plan, step: Step) -> None:
    """Memory while loading, disk for checkpoints."""
    if plan.llm is None or plan.visual is None:
        step.says("not estimated: it depends on the models")
        return
    trained = plan.llm.trainable + plan.visual.trainable + plan.projector
    hook = plan.setting.config["default_hooks"]["checkpoint"]
    kept = (hook.get("max_keep_ckpts") or 1) + 1 if (hook.get("interval") or 0) > 0 else 0
    # A checkpoint has the trained weights and, in float32, their copy and Adam's moments; and the best adapter so far,
    # which is also beside it, and at the end beside the last one.
    best = 4 if (validation := hook_of(plan.setting.config)) is not None and validation.get("keep") == "best" else 0
    disk = trained * (kept * (plan.setting.precision.compute + 12 + best) + 4 + 2 * best)
    loading = host_memory_while_loading(plan)
    step.says(f"memory of the host while loading: about {gib(loading)} GiB; disk: about {gib(disk)} GiB")
    if plan.setting.elsewhere:
        return
    folder = plan.setting.work_dir.absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if disk > free:
        step.wrong(f"{folder} has {gib(free)} GiB free, checkpoints need {gib(disk)}: free some or move --work-dir")
    if loading > here:
        step.wrong(f"this machine has {gib(here)} GiB of memory, loading takes {gib(loading)}: start fewer processes")


def host_memory_while_loading(plan: Plan) -> float:
    """Bytes of the host that all processes hold while they load: every weight of both models.

    A language model whose files have the number type that it is loaded in stays in them until it goes to the GPU, and
    all processes share a file's pages; so does one that is quantised. On a CPU, DeepSpeed's broadcast at the start
    writes into them, which makes them each process's own.
    """
    assert plan.llm is not None
    assert plan.visual is not None
    setting, c = plan.setting, plan.setting.precision.compute
    settings = setting.config["model"]["llm"]
    loaded = "bfloat16" if setting.elsewhere else str(settings.get("torch_dtype")).removeprefix("torch.")
    stored = checkpoints.stored_dtype(settings["pretrained_model_name_or_path"])
    shared = setting.on_gpu and stored is not None and (setting.quantised or stored == loaded)
    copies = 1 if shared else setting.processes
    return c * (copies * plan.llm.parameters + setting.processes * plan.visual.parameters)


def time(plan: Plan, step: Step, tflops: float) -> None:
    """Forward, once more for what is checkpointed, and backward through frozen weights: 2 operations a weight each."""
    if plan.llm is None or plan.visual is None or plan.store is None:
        step.says("not estimated: it depends on the models and the token store")
        return
    setting, store = plan.setting, plan.store
    share = optimiser_steps(plan) * setting.batch_size * setting.accumulation * setting.processes / store.records
    positions = (setting.image_tokens + 1) * store.images
    ways = setting.ways(0, plan.checkpointed_blocks)
    passes = 2 + ways.checkpointed(plan.llm.layers) / plan.llm.layers
    seen = (3 if ways.checkpointing else 2) if plan.visual.trainable else 1  # frozen, it is only looked through
    work = 2.0 * share * (passes * plan.llm.parameters * store.tokens + seen * plan.visual.parameters * positions)
    said = f"{work:.2g} floating point operations"
    if plan.validation is not None and (looks := validations(plan)):
        seen_there = (setting.image_tokens + 1) * plan.validation.images
        once = 2.0 * (plan.llm.parameters * plan.validation.tokens + plan.visual.parameters * seen_there)
        work += looks * once
        part = f"{100 * looks * once / work:.2g} % of them in {looks:,} validation{'s' * (looks > 1)}"
        said = f"{work:.2g} floating point operations, {part}"
    if not setting.on_gpu:
        step.says(f"{said}; no GPU here to divide them by")
        return
    hours = work / (setting.processes * tflops * 1e12) / 3600
    step.says(f"{said}: about {hours:.2g} hours at {tflops:g} TFLOP/s a GPU, which is assumed and not measured")


def validations(plan: Plan) -> int:
    """How often the run validates: at the first whole step at which it is due, and after the last."""
    config = plan.setting.config
    hook = hook_of(config)
    if hook is None:
        return 0
    last, interval = iterations(plan), interval_of(config, hook)
    cut = 1 if plan.setting.max_tokens is not None else plan.setting.accumulation
    due = (math.ceil(count * interval / cut) * cut for count in range(1, last // interval + 1)) if interval > 0 else ()
    return len({done for done in due if done < last} | {last})


def gib(size: float) -> str:
    """Bytes as GiB in two digits or one decimal."""
    return f"{size / GIB:.1f}" if size >= GIB / 10 else f"{size / GIB:.2g}"
