"""What an export starts from: a finished run, its adapters as exported, or a base model that was never tuned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..llm.weights import content_of
from ..training.artifacts import ADAPTERS, LLM, MANIFEST, PROBES, PROJECTOR, VISUAL_ENCODER, TrainingRecord
from .form import ADAPTER, BASE_LLAVA, FILE_NAME, LORA, ExportForm

BASE = "base.json"
ADAPTER_CONFIG = "adapter_config.json"
LLM_ADAPTER, VISUAL_ENCODER_ADAPTER = "llm_adapter", "visual_encoder_adapter"
"""Adapters in an export of the form `lora` from before it had a base; a run's own are named as what they tune."""
LANGUAGE_MODEL, TOWER, PROJECTOR_NAMES = "language_model", "vision_tower", {"0": "linear_1", "2": "linear_2"}
"""What Hugging Face's LLaVA calls its parts; older and newer releases read these names."""


@dataclass(frozen=True)
class Parts:
    """The pieces of one model on disk; an adapter is None where the piece was not tuned.

    Attributes:
        record: what was trained and how; of a base model that never was, what its base.json says.
        facts: the same as JSON, for the export's own file.
        probes: records to prove an export on; the file may be missing.
        inside: what the language model is called inside the LLaVA that `llm` and `visual_encoder` are, as in an
            export of the form `lora`; "" where each is a checkpoint of its own.
        exported: whether these are the pieces of an export of the form `lora`.
    """

    llm: str
    visual_encoder: str
    projector: Path
    llm_adapter: Path | None
    visual_encoder_adapter: Path | None
    record: TrainingRecord
    facts: Mapping[str, Any]
    probes: Path
    inside: str = ""
    exported: bool = False

    @property
    def text_only(self) -> bool:
        """Whether this is a language model alone, without pictures."""
        return not self.record.visual_encoder

    @property
    def template(self) -> str:
        """Name of the chat template."""
        return self.record.template

    @property
    def pad_image_to_square(self) -> bool:
        """Whether a picture is padded before it is resized."""
        return self.record.pad_image_to_square

    @property
    def visual_select_layer(self) -> int:
        """Whose output the projector reads."""
        return self.record.visual_select_layer

    def quantisation(self, part: str, needed: bool = True) -> Mapping[str, Any] | None:
        """How a part's base was quantised in the training; None where it was not.

        Raises:
            ExportError: it was, an old record does not say how, and that is needed.
        """
        if not self.record.bits.get(part) or self.exported:
            return None
        if part not in self.record.quantisation:
            if not needed:
                return None
            raise ExportError(
                f"the {part} was trained in {self.record.bits[part]} bits, and training.json of that version does not "
                "say how they were made: train it again, or export with --base original"
            )
        return self.record.quantisation[part]

    def require_same_bases(self) -> None:
        """Stop when a base model's folder holds other weights than those that were trained on. Raises ExportError."""
        for part, checkpoint in () if self.exported else ((LLM, self.llm), (VISUAL_ENCODER, self.visual_encoder)):
            recorded = self.record.base.get(part)
            if recorded and (found := content_of(checkpoint)) != recorded:
                what = " and ".join(name for name in recorded if found.get(name) != recorded[name])
                raise ExportError(
                    f"{checkpoint} is not the model that was trained: its {what} differ. Bring back what was there, "
                    "or export on the machine of the training"
                )


def find_parts(run: Path) -> Parts:
    """The pieces of a run's folder (or its `adapters/`), of an export in the form `lora`, or of a base model's folder.

    Raises:
        ExportError: the folder is neither, or the run did not finish.
    """
    if (run / BASE).is_file():
        facts = _read(run / BASE)
        told = {name: facts.get(name) for name in ("template", "pad_image_to_square", "visual_select_layer", "system")}
        here = {LLM: str(run / LLM), VISUAL_ENCODER: str(run / VISUAL_ENCODER)}
        record = TrainingRecord.of({**told, **here}, run / BASE)
        return Parts(
            record.llm, record.visual_encoder, run / PROJECTOR, None, None, record, facts, run / PROBES
        )  # fmt: skip
    if (run / FILE_NAME).is_file():
        form = ExportForm.read(run)
        if form.kind == LORA and (run / BASE_LLAVA).is_dir():
            told = {"pad_image_to_square": form.pad_image_to_square, "system": form.system}
            sees = bool(form.source.get(VISUAL_ENCODER))
            here = {LLM: str(run / BASE_LLAVA), VISUAL_ENCODER: str(run / BASE_LLAVA) if sees else ""}
            record = TrainingRecord.of({**form.source, **told, **here}, run / FILE_NAME)
            return Parts(
                record.llm, record.visual_encoder, run / BASE_LLAVA, run / ADAPTER, None, record, form.source,
                run / PROBES, LANGUAGE_MODEL if sees else "", exported=True,
            )  # fmt: skip
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
        record, facts, folder / PROBES,
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise ExportError(f"{path} cannot be read ({fault}): train or build the model again") from fault
    return facts


def number_type(parts: Parts, part: str) -> Any:
    """The torch.dtype that a part was trained in; None where an old record does not say."""
    import torch

    name = parts.record.dtype.get(part)
    return getattr(torch, name) if name else None
