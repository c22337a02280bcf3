"""What an export starts from: a finished run, its adapters as exported, or a base model that was never tuned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..training.artifacts import ADAPTERS, LLM, MANIFEST, PROJECTOR, VISUAL_ENCODER, TrainingRecord
from .form import FILE_NAME, LORA, ExportForm

BASE = "base.json"
ADAPTER_CONFIG = "adapter_config.json"
LLM_ADAPTER, VISUAL_ENCODER_ADAPTER = "llm_adapter", "visual_encoder_adapter"
"""An exported adapter's folder; a run's own are named as what they tune."""


@dataclass(frozen=True)
class Parts:
    """The pieces of one model on disk; an adapter is None where the piece was not tuned."""

    llm: str
    visual_encoder: str
    projector: Path
    llm_adapter: Path | None
    visual_encoder_adapter: Path | None
    template: str
    pad_image_to_square: bool
    visual_select_layer: int
    facts: Mapping[str, Any]


def find_parts(run: Path) -> Parts:
    """The pieces of a run's folder (or its `adapters/`), of an export in the form `lora`, or of a base model's folder.

    Raises:
        ExportError: the folder is neither, or the run did not finish.
    """
    if (run / BASE).is_file():
        facts = _read(run / BASE)
        return Parts(
            str(run / LLM), str(run / VISUAL_ENCODER), run / PROJECTOR, None, None,
            facts["template"], facts["pad_image_to_square"], facts["visual_select_layer"], facts,
        )  # fmt: skip
    if (run / FILE_NAME).is_file():
        form = ExportForm.read(run)
        if form.kind == LORA:
            record = TrainingRecord.of(form.source, run / FILE_NAME)
            return _parts(run, record, form.source, LLM_ADAPTER, VISUAL_ENCODER_ADAPTER)
    folder = run if (run / MANIFEST).is_file() else run / ADAPTERS
    if not (folder / MANIFEST).is_file():
        raise ExportError(
            f"{run} holds neither a finished run ({ADAPTERS}/{MANIFEST}) nor a base model ({BASE}): "
            "let the training end, or give another folder"
        )
    record = TrainingRecord.read(folder)
    return _parts(folder, record, record.as_json(), LLM, VISUAL_ENCODER)


def _parts(folder: Path, record: TrainingRecord, facts: Mapping[str, Any], llm: str, visual_encoder: str) -> Parts:
    def adapter(name: str) -> Path | None:
        return folder / name if (folder / name / ADAPTER_CONFIG).is_file() else None

    return Parts(
        record.llm, record.visual_encoder, folder / PROJECTOR, adapter(llm), adapter(visual_encoder),
        record.template, record.pad_image_to_square, record.visual_select_layer, facts,
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ExportError(f"{path} cannot be read ({fault}): train or build the model again") from fault
    return facts
