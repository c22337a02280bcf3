"""Hooks that run inside `xtuner train`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from .artifacts import ADAPTERS, LAST, LLM, PROBES, VISUAL_ENCODER, TrainingRecord
from .checkpoints.save import accumulation_of
from .checkpoints.setting import bases, loaded_from
from .parts import whole, write_parts
from .precision import quantised_bits
from .probes import probes
from .run_folder import drop_replaced
from .unwrap import unwrapped
from .validation import best
from .validation.hook import validation_of


class SaveAdapters(Hook):
    """Leave what a finished run is for: the adapters and the projector, with a manifest, written as one.

    `WORK_DIR/adapters/` holds `llm/` and `visual_encoder/` (PEFT directories), `projector/model.safetensors`,
    `training.json` and `probes.safetensors`, some records on which an export is proved; of a model without pictures
    there is `llm/` alone. Where a validation keeps the best, these are of the step of the lowest loss, and `last/` has
    those of the last step, with a record of its own. The folder appears only when everything in it is complete, so it
    also proves that the run ended.
    """

    priority = "VERY_LOW"

    def before_train(self, runner: Any) -> None:
        """Note when the training began, and on what: the base models by their content."""
        from mmengine.dist import is_main_process

        self.start = time.monotonic()
        self.base = bases(runner.cfg) if is_main_process() else {}

    def after_train(self, runner: Any) -> None:
        """Write the folder, from the first process alone; under ZeRO-3 all bring their pieces."""
        from mmengine.dist import barrier, is_main_process

        model = unwrapped(runner.model)
        with whole(model):
            if is_main_process():
                self._write(runner, model)
        barrier()

    def _write(self, runner: Any, model: Any) -> None:
        from safetensors.torch import save_file

        from ..output import atomic_folder

        validation, record, run = validation_of(runner), self._record(runner, model), Path(runner.work_dir)
        kept = validation.kept if validation is not None else None
        found = probes(runner.train_dataloader.dataset)
        with atomic_folder(run / ADAPTERS, kind="adapters") as folder:
            places = {folder: record}
            if kept is None or kept.step == runner.iter:
                write_parts(model, folder)
            else:
                best.put_into(run, folder, kept)
                write_parts(model, folder / LAST)
                step, loss = record.validation["losses"][-1]
                last = {**record.validation, "keep": "last", "step": step, "loss": loss}
                places[folder / LAST] = replace(record, validation=last)
            for place, told in places.items():
                told.write(place)
                if found:
                    save_file(found, place / PROBES)
        drop_replaced(run)
        best.forget(run)

    def _record(self, runner: Any, model: Any) -> TrainingRecord:
        from mmengine.dist import get_world_size

        from ..versions import installed_versions

        config = runner.cfg
        parts = model.parts()
        sees = VISUAL_ENCODER in parts
        return TrainingRecord(
            steps=runner.iter,
            seconds=round(time.monotonic() - self.start, 1),
            seed=runner.seed,
            processes=get_world_size(),
            batch_size=config.train_dataloader.batch_size,
            max_tokens=config.train_cfg.get("max_tokens"),
            llm=loaded_from(config, LLM),
            visual_encoder=loaded_from(config, VISUAL_ENCODER) if sees else "",
            template=config.train_dataloader.dataset.get("template") or config.prompt_template,
            pad_image_to_square=sees and config.train_dataloader.dataset.get("pad_image_to_square", True),
            visual_select_layer=model.visual_select_layer if sees else 0,
            **quantisation_of(model),
            dtype={n: number_type(m, config.model.get(n)) for n, m in parts.items()},
            base=self.base,
            system=getattr(runner.train_dataloader.dataset, "system", ""),
            data=counts_of(runner.train_dataloader.dataset),
            settings={**settings_of(config), "accumulation": accumulation_of(runner)},
            validation=validation_told(runner),
            trainable={n: sum(elements(p) for p in m.parameters() if p.requires_grad) for n, m in parts.items()},
            versions=installed_versions(),
        )


def quantisation_of(model: Any) -> dict[str, dict[str, Any]]:
    """The record's `bits` and `quantisation` of a model's parts."""
    parts = model.parts()
    bits = {name: quantised_bits(part) for name, part in parts.items()}
    return {
        "bits": bits,
        "quantisation": {name: plain(parts[name].config.quantization_config) for name in parts if bits[name]},
    }


def counts_of(dataset: Any) -> dict[str, Any]:
    """How many records a dataset has, and of which files a token store was made."""
    manifest = getattr(dataset, "manifest", {})
    found = {"records": len(dataset), **{name: manifest[name] for name in ("text_only", "tokens") if name in manifest}}
    sources = [f"{item['name']} (sha256 {item['sha256'][:12]})" for item in manifest.get("sources", ())]
    return found | ({"sources": ", ".join(sources)} if sources else {})


def validation_told(runner: Any) -> dict[str, Any]:
    """The record's `validation`: what the hook found, and of which files the records were made."""
    validation = validation_of(runner)
    if validation is None or validation.records is None:
        return {}
    return {**counts_of(validation.records.dataset), **validation.told()}


def settings_of(config: Any) -> dict[str, Any]:
    """Of the optimiser and the schedule, as the config has them."""
    optimizer = config.optim_wrapper.optimizer
    found = {
        "optimiser": str(optimizer.type).rsplit(".", 1)[-1],
        **{name: optimizer[name] for name in ("lr", "betas", "weight_decay") if name in optimizer},
        **{
            name: config.train_cfg[name]
            for name in ("max_epochs", "max_iters", "loss_mean")
            if name in config.train_cfg
        },
    }
    return json.loads(json.dumps(found, default=str))


def number_type(part: Any, settings: Any = None) -> str:
    """That in which a part's weights were loaded, or are held where that has fewer bits (DeepSpeed casts them).

    Looked at in an embedding, a convolution or the projector: those are in no adapter and never quantised. k-bit
    training holds them in float32, which makes nothing more exact.

    Args:
        part: a model.
        settings: what it was loaded with, `torch_dtype` among it.
    """
    import torch

    own = ((name, weight) for name, weight in part.named_parameters() if "lora_" not in name)
    # ZeRO-3 leaves a weight that it has cut up without its shape.
    held = next(w.dtype for _, w in own if w.is_floating_point() and len(getattr(w, "ds_shape", w.shape)) > 1)
    said = str(settings.get("torch_dtype") or "") if isinstance(settings, Mapping) else ""
    loaded = getattr(torch, said.removeprefix("torch."), None) or held
    return str(min(held, loaded, key=lambda kind: torch.finfo(kind).bits)).removeprefix("torch.")


def plain(quantisation: Any) -> dict[str, Any]:
    """A quantisation config as JSON."""
    made: dict[str, Any] = quantisation if isinstance(quantisation, dict) else quantisation.to_dict()
    return json.loads(json.dumps(made, default=str))


def elements(parameter: Any) -> int:
    """A parameter's elements, also of one that ZeRO-3 has cut up and that is empty here."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
