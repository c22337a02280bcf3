"""A hook for mmengine that measures what tensors hold at most, on any device, while `xtuner train` runs.

Used by tests/training/test_memory.py, in the training's own process: `custom_hooks` names it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))

from bench.training.memory import LiveTensors


class PeakMemory(Hook):
    """Writes the peak of the second step on to the file that PEAK_MEMORY names."""

    priority = "VERY_LOW"

    def after_train_iter(self, runner: Any, batch_idx: int, *_: Any, **__: Any) -> None:
        """Start after a step, when the optimiser has its state; stop three steps later."""
        if batch_idx == 1:
            gc.collect()
            self.mode = LiveTensors()
            self.start = self.mode.now
            self.mode.__enter__()
        elif batch_idx == 4:
            self.mode.__exit__(None, None, None)
            with open(os.environ["PEAK_MEMORY"], "w", encoding="utf-8") as file:
                json.dump({"peak": self.mode.peak, "between_steps": self.start}, file)
