"""Hooks that run inside `xtuner train`."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from xtuner.model import LLaVAModel

from .artifacts import ADAPTERS, LLM, PROJECTOR, VISUAL_ENCODER, TrainingRecord
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
        """Write the folder, from the first process alone; under ZeRO-3 all bring their pieces."""
        from mmengine.dist import barrier, is_main_process

        model = runner.model
        while not isinstance(model, LLaVAModel):
            # mmengine's wrapper holds DeepSpeed's engine or a DistributedDataParallel, and that the model.
            model = model.module if hasattr(model, "module") else model.model
        with _whole(model):
            if is_main_process():
                self._write(runner, model)
        barrier()

    def _write(self, runner: Any, model: Any) -> None:
        from safetensors.torch import save_file

        from ..output import atomic_folder

        with atomic_folder(Path(runner.work_dir) / ADAPTERS, kind="adapters") as folder:
            for name, part in ((LLM, model.llm), (VISUAL_ENCODER, model.visual_encoder)):
                if hasattr(part, "peft_config"):
                    part.save_pretrained(folder / name)
            (folder / PROJECTOR).mkdir()
            weights = {n: w.detach().cpu().contiguous() for n, w in model.projector.state_dict().items()}
            save_file(weights, folder / PROJECTOR / "model.safetensors", {"format": "pt"})
            self._record(runner, model).write(folder)

    def _record(self, runner: Any, model: Any) -> TrainingRecord:
        from mmengine.dist import get_world_size

        from ..versions import installed_versions

        config = runner.cfg
        parts = {LLM: model.llm, VISUAL_ENCODER: model.visual_encoder, PROJECTOR: model.projector}
        return TrainingRecord(
            steps=runner.iter,
            seconds=round(time.monotonic() - self.start, 1),
            seed=runner.seed,
            processes=get_world_size(),
            batch_size=config.train_dataloader.batch_size,
            max_tokens=config.train_cfg.get("max_tokens"),
            llm=config.llm_path,
            visual_encoder=config.visual_encoder_path,
            template=config.prompt_template,
            pad_image_to_square=config.train_dataloader.dataset.get("pad_image_to_square", True),
            visual_select_layer=model.visual_select_layer,
            bits={n: quantised_bits(m) for n, m in parts.items()},
            trainable={n: sum(elements(p) for p in m.parameters() if p.requires_grad) for n, m in parts.items()},
            versions=installed_versions(),
        )


def elements(parameter: Any) -> int:
    """A parameter's elements, also of one that ZeRO-3 has cut up and that is empty here."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _whole(model: Any) -> AbstractContextManager[Any]:
    """While it lasts, what was trained is whole on every process."""
    cut = [p for p in model.parameters() if p.requires_grad and hasattr(p, "ds_id")]
    if not cut:
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(cut)
    return gathered
