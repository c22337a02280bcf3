"""A checkpoint is data: nothing that stands in one is run."""

from __future__ import annotations

import os
from typing import Any

import torch


def run_no_code_of_checkpoints() -> None:
    """Let no checkpoint run code while it is read, whoever reads it in this process."""
    _weights_only()
    _configs_stay_texts()


def _weights_only() -> None:
    """WORK-AROUND deepspeed 0.17, mmengine 0.10.6 (open-mmlab/mmengine#1655), xtuner 0.2.0: they trust pickles.

    DeepSpeed reads model and optimiser states with `weights_only=False`, so that a file can run anything; torch's own
    switch forces it to be true. mmengine's checkpoints hold classes that torch then refuses: these, and DeepSpeed's,
    are named; `getattr`, by which a HistoryBuffer names its own methods, is let through for those alone. Can go when
    all three read weights only.
    """
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    import numpy as np
    from mmengine.config.config import ConfigDict
    from mmengine.logging.history_buffer import HistoryBuffer
    from numpy._core import multiarray

    def method_of_history_buffer(thing: Any, name: str) -> Any:
        if thing is HistoryBuffer and name in ("min", "max", "mean", "current"):
            return getattr(thing, name)
        raise TypeError(f"a checkpoint asks for {name!r} of {thing!r}")

    dtypes = {type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64", "uint32")}
    plain: list[Any] = [ConfigDict, HistoryBuffer, multiarray._reconstruct, multiarray.scalar, np.ndarray, np.dtype]
    torch.serialization.add_safe_globals([*plain, *dtypes, (method_of_history_buffer, "builtins.getattr")])
    torch.serialization.add_safe_globals(_of_deepspeed())


def _of_deepspeed() -> list[Any]:
    """The classes that stand in DeepSpeed's own states; they hold numbers."""
    try:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
        from deepspeed.runtime.zero.config import ZeroStageEnum
        from deepspeed.utils.tensor_fragment import fragment_address
    except ImportError:
        return []
    return [DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]


def _configs_stay_texts() -> None:
    """WORK-AROUND mmengine 0.10.6 (runner.py, _flexible_runner.py): resuming executes a checkpoint's `meta["config"]`.

    As Python, to look whether it says `gpu_ids`, which no config of ours or of XTuner's does. Here it is not read. Can
    go when it is not executed.
    """
    from mmengine.config import Config

    stock = Config.fromstring

    def fromstring(text: str, file_format: str) -> Any:
        return Config() if file_format == ".py" else stock(text, file_format)

    Config.fromstring = staticmethod(fromstring)
