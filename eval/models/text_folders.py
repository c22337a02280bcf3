"""What a folder holds of a language model without pictures: a checkpoint, a run, an adapter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError, ExportError
from moslora_xtuner.export.form import ADAPTER, BASE_LLAVA, FILE_NAME
from moslora_xtuner.export.parts import ADAPTER_CONFIG
from moslora_xtuner.llm.families import checkpoint_file
from moslora_xtuner.training.artifacts import ADAPTERS, LLM, MANIFEST, TrainingRecord, kept_text

CONFIG = "config.json"


@dataclass(frozen=True)
class TextFolders:
    """Where a language model stands: its checkpoint, and the adapter on it where there is one."""

    base: Path
    adapter: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        """Every folder that an answer depends on."""
        return (self.base,) if self.adapter is None else (self.base, self.adapter)


def text_folders(folder: Path) -> TextFolders | None:
    """What a folder holds of a language model without pictures; None where it is something else.

    A checkpoint as transformers writes it (an export of `--format hf` is one), an export of `--format lora`, a run that
    trained on text alone (or its `adapters/`), or an adapter of PEFT whose config names its base, or that is part of
    such an export.

    Raises:
        EvaluationError: it is one, and its base model is not there.
    """
    if (folder / CONFIG).is_file():
        return TextFolders(folder) if _is_causal(folder) else None
    if (folder / BASE_LLAVA / CONFIG).is_file() and (folder / ADAPTER / ADAPTER_CONFIG).is_file():
        base = folder / BASE_LLAVA
        return TextFolders(base, folder / ADAPTER) if _is_causal(base) else None
    run = folder if (folder / MANIFEST).is_file() else folder / ADAPTERS
    if (run / MANIFEST).is_file():
        try:
            record = TrainingRecord.read(run)
        except ExportError:
            return None  # told by who exports
        if record.visual_encoder:
            return None
        return _on_base(record.llm, run / LLM if (run / LLM / ADAPTER_CONFIG).is_file() else None, run)
    if folder.name == ADAPTER and (folder.parent / BASE_LLAVA / CONFIG).is_file():
        return text_folders(folder.parent)
    if (folder / ADAPTER_CONFIG).is_file():
        return _on_base(str(_json(folder / ADAPTER_CONFIG).get("base_model_name_or_path")), folder, folder)
    return None


def adapter_of(folders: TextFolders) -> str:
    """Of which step a run's adapter is, where a validation has chosen or seen it; "" else."""
    run = None if folders.adapter is None else folders.adapter.parent
    if run is None or not (run / MANIFEST).is_file():
        return ""
    try:
        return kept_text(TrainingRecord.read(run).validation)
    except ExportError:
        return ""


def called(folder: Path) -> str | None:
    """What an export calls itself; None where the folder is none."""
    path = folder / FILE_NAME
    found = _json(path).get("name") if path.is_file() else None
    return found if isinstance(found, str) and found else None


def _is_causal(folder: Path) -> bool:
    config = _json(folder / CONFIG)
    if str(config.get("model_type")).startswith("llava"):  # the LLaVA of its authors calls itself a causal LM, too
        return False
    kinds = config.get("architectures") or []
    return not {"text_config", "vision_config"} & config.keys() and any(str(k).endswith("ForCausalLM") for k in kinds)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise EvaluationError(f"{path} cannot be read ({fault}): make or fetch the model again") from fault
    return found if isinstance(found, dict) else {}


def _on_base(base: str, adapter: Path | None, where: Path) -> TextFolders:
    try:
        config = checkpoint_file(base, CONFIG, local_files_only=True)  # a hub's name is a folder of the cache
    except OSError:  # no folder, and no such name
        config = None
    if config is None or not config.is_file():
        raise EvaluationError(f"{where} was made on {base}, which is no model's folder here: bring it back")
    return TextFolders(config.parent, adapter)
