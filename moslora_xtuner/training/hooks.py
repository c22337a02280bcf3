"""Hooks that run inside `xtuner train`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from xtuner.model import LLaVAModel

from .artifacts import ADAPTERS, LLM, MANIFEST, PROJECTOR, VISUAL_ENCODER
from .precision import quantised_bits


class SaveAdapters(Hook):
    """Leave what a finished run is for: the adapters and the projector, with a manifest, written as one.

    `WORK_DIR/adapters/` holds `llm/` and `visual_encoder/` (PEFT directories), `projector/model.safetensors` and
    `training.json`. The folder appears only when everything in it is complete, so it also proves that the run ended.
    """

    priority = "VERY_LOW"

    def before_train(self, runner: Any) -> None:
        """Note when the training began."""
        self.start = time.monotonic()

    def after_train(self, runner: Any) -> None:
        """Write the folder, from the first process alone."""
        from mmengine.dist import barrier, is_main_process

        if is_main_process():
            self._write(runner)
        barrier()

    def _write(self, runner: Any) -> None:
        from safetensors.torch import save_file

        from ..output import atomic_folder

        model = runner.model
        while not isinstance(model, LLaVAModel):
            # mmengine's wrapper holds DeepSpeed's engine or a DistributedDataParallel, and that the model.
            model = model.module if hasattr(model, "module") else model.model
        with atomic_folder(Path(runner.work_dir) / ADAPTERS, kind="adapters") as folder:
            for name, part in ((LLM, model.llm), (VISUAL_ENCODER, model.visual_encoder)):
                if hasattr(part, "peft_config"):
                    part.save_pretrained(folder / name)
            (folder / PROJECTOR).mkdir()
            weights = {n: w.detach().cpu().contiguous() for n, w in model.projector.state_dict().items()}
            save_file(weights, folder / PROJECTOR / "model.safetensors", {"format": "pt"})
            (folder / MANIFEST).write_text(json.dumps(self._facts(runner, model), indent=2) + "\n")

    def _facts(self, runner: Any, model: Any) -> dict[str, Any]:
        from mmengine.dist import get_world_size

        from ..versions import installed_versions

        config = runner.cfg
        parts = {LLM: model.llm, VISUAL_ENCODER: model.visual_encoder, PROJECTOR: model.projector}
        return {
            "steps": runner.iter,
            "seconds": round(time.monotonic() - self.start, 1),
            "seed": runner.seed,
            "processes": get_world_size(),
            "batch_size": config.train_dataloader.batch_size,
            "llm": config.llm_path,
            "visual_encoder": config.visual_encoder_path,
            "template": config.prompt_template,
            "pad_image_to_square": config.train_dataloader.dataset.get("pad_image_to_square", True),
            "visual_select_layer": model.visual_select_layer,
            "bits": {n: quantised_bits(m) for n, m in parts.items()},
            "trainable": {n: sum(p.numel() for p in m.parameters() if p.requires_grad) for n, m in parts.items()},
            "versions": installed_versions(),
        }
