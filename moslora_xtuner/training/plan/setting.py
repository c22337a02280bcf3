"""What a plan is about: a config, read, and the machine that it is for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...recipes.catalogue import resolve_config
from ..checkpointing import BY_PLAN
from ..deepspeed import deepspeed_file
from ..processes import default_processes
from .memory import Precision, Sharding, Ways

DEFAULT_BUCKET = 500_000_000
"""DeepSpeed's reduce_bucket_size, in elements (runtime/zero/config.py)."""
LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's stage3_max_live_parameters."""

HALF = ("bfloat16", "float16")


@dataclass(frozen=True)
class Setting:
    """A run that is planned.

    Attributes:
        name: of the recipe.
        config: resolved, with the options.
        options: `key=value` changes, as they were given.
        processes: one a GPU.
        gpus: how many were asked for by name; None for whatever is there.
        gpu_memory: GiB of one GPU; None on the machine itself, which is asked.
        deepspeed: `zero2`, `zero3`, a JSON file, or None.
        work_dir: the run's folder.
    """

    name: str
    config: dict[str, Any]
    options: tuple[str, ...]
    processes: int
    gpus: int | None
    gpu_memory: float | None
    deepspeed: str | None
    work_dir: Path

    @property
    def elsewhere(self) -> bool:
        """Whether the plan is for another machine than this one."""
        return self.gpu_memory is not None

    @property
    def on_gpu(self) -> bool:
        """Whether it will train on GPUs."""
        return self.elsewhere or visible_gpus() > 0

    @property
    def quantised(self) -> bool:
        """Whether the language model is in 4 bits."""
        return self.config["model"]["llm"].get("quantization_config") is not None

    @property
    def batch_size(self) -> int:
        """Records of a micro-batch."""
        return int(self.config["train_dataloader"]["batch_size"])

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step on one GPU."""
        return int(self.config["optim_wrapper"].get("accumulative_counts", 1))

    @property
    def max_tokens(self) -> int | None:
        """The most places of a micro-batch; None where batches are of a fixed number of records."""
        return self.config["train_cfg"].get("max_tokens")

    def ways(self, supervised: float, blocks: int | None = None) -> Ways:
        """How the model keeps less; with so many `blocks` checkpointed, whatever the config says."""
        return ways_of(self.config["model"], supervised, blocks)

    @property
    def leaves_blocks_to_the_plan(self) -> bool:
        """Whether the config lets the plan say how many blocks are checkpointed."""
        return bool(self.config["model"].get("checkpointed_blocks") == BY_PLAN)

    @property
    def image_tokens(self) -> int:
        """Places of a picture."""
        return int(self.config["train_dataloader"]["collate_fn"].get("image_tokens", 1))

    @property
    def text_only(self) -> bool:
        """Whether the model is a language model alone (MosLoraCausalLM)."""
        return "visual_encoder" not in self.config["model"]

    @property
    def seed(self) -> int:
        """Of the order of the records; 0 for a run that draws its own."""
        return int(self.config.get("randomness", {}).get("seed") or 0)

    @property
    def precision(self) -> Precision:
        """Half precision on a GPU; without one what the config says, float32 where the recipes decide.

        A dropout mask has a byte an element on a GPU, and its input's number type on a CPU.
        """
        if self.on_gpu:
            return Precision(2, 1, self.quantised)
        compute = 2 if str(self.config["model"]["llm"].get("torch_dtype")).removeprefix("torch.") in HALF else 4
        return Precision(compute, compute, self.quantised)

    @cached_property
    def zero(self) -> dict[str, Any]:
        """DeepSpeed's `zero_optimization`; empty without DeepSpeed.

        Raises:
            ConfigError: the file is not there or no DeepSpeed config.
        """
        if self.deepspeed is None:
            return {}
        file = deepspeed_file(self.deepspeed, self.on_gpu)
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["zero_optimization"]
        except (OSError, ValueError, KeyError) as fault:
            raise ConfigError(f"{file} is no DeepSpeed config ({fault!r}): give zero2, zero3 or a JSON file") from fault
        return found

    @property
    def sharding(self) -> Sharding:
        """How DeepSpeed spreads the run."""
        stage = int(self.zero.get("stage", 0))
        bucket = int(self.zero.get("reduce_bucket_size", DEFAULT_BUCKET)) if stage else 0
        live = int(self.zero.get("stage3_max_live_parameters", LIVE_PARAMETERS)) if stage == 3 else 0
        return Sharding(stage, self.processes, bucket, bool(self.zero.get("overlap_comm")), live)


def read_setting(
    config: str,
    *,
    processes: int | None = None,
    gpus: int | None = None,
    gpu_memory: float | None = None,
    deepspeed: str | None = "zero2",
    options: Sequence[str] = (),
    work_dir: Path | None = None,
) -> Setting:
    """Read a config for a plan, without its custom imports.

    Raises:
        ConfigError: there is no such config, it cannot be read, or an option is no `key=value`.
    """
    from mmengine.config import Config, DictAction

    file = resolve_config(config)
    try:
        content = Config.fromfile(file, import_custom_modules=False)
    except Exception as fault:  # a config is a program: anything may happen in it
        raise ConfigError(f"{file} cannot be read: {type(fault).__name__}: {fault}") from fault
    changes = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise ConfigError(f"--cfg-options {option!r} is no KEY=VALUE")
        changes[key] = DictAction._parse_iterable(value)
    content.merge_from_dict(changes)
    return Setting(
        name=file.stem,
        config=content.to_dict(),
        options=tuple(options),
        processes=gpus or processes or (default_processes() if gpu_memory is None else max(1, visible_gpus())),
        gpus=gpus,
        gpu_memory=gpu_memory,
        deepspeed=deepspeed,
        work_dir=work_dir or Path("work_dirs") / file.stem,
    )


def ways_of(model: dict[str, Any], supervised: float, blocks: int | None = None) -> Ways:
    """What the config of a MosLoraLLaVA does to keep less.

    Args:
        supervised: the most places of a micro-batch that carry a label.
        blocks: how many are checkpointed, whatever the config says; None is what it says.
    """
    said = model.get("checkpointed_blocks")
    return Ways(
        checkpointing=model.get("use_activation_checkpointing", True),
        blocks=said if blocks is None and said != BY_PLAN else blocks,
        fused=model.get("fused_adapters", False),
        lean=model.get("lean_mlp", False),
        masked=not model.get("skip_padding_mask", False),
        supervised=supervised if model.get("chunked_loss", False) else None,
    )


def visible_gpus() -> int:
    """The GPUs of this machine that a run may use."""
    import torch

    return int(torch.cuda.device_count())
