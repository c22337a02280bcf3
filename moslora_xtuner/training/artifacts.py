"""What a training run leaves in its folder: the names, and training.json, which says what was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ExportError
from ..formats import FORMAT, unreadable

ADAPTERS = "adapters"
LAST = "last"
"""In `adapters/`, the last step's, where that is not the one that is kept."""
LLM = "llm"
VISUAL_ENCODER = "visual_encoder"
PROJECTOR = "projector"
MANIFEST = "training.json"
PROBES = "probes.safetensors"


@dataclass(frozen=True)
class TrainingRecord:
    """What was trained, on what, with what. What an older record does not say is None or empty.

    Attributes:
        llm, visual_encoder: the base models, as the config names them; without pictures the second is "".
        template: of the conversations.
        pad_image_to_square, visual_select_layer: what becomes of a picture.
        steps, seconds, seed, processes, batch_size, max_tokens: how long, and how it was cut.
        bits: of the weights of each part; None for unquantised ones.
        quantisation: how those were quantised, of each part that was.
        dtype: the number type of each part's weights that were not.
        base: what each base model is by its content (`llm.weights.content_of`).
        system: the system prompt that the records carried.
        data: what the records were: how many, of which sources.
        settings: of the optimiser and its schedule.
        validation: how many `records`, every how many iterations (`interval`) and how often (`times`) they were looked
            at, which adapter this is (`keep`: the best or the last), of which iteration (`step`) and with which `loss`
            (None: no finite number), and all `losses`; empty without one.
        trainable: weights of each part.
        versions: of the packages.
    """

    llm: str
    visual_encoder: str
    template: str
    pad_image_to_square: bool
    visual_select_layer: int
    steps: int | None = None
    seconds: float | None = None
    seed: int | None = None
    processes: int | None = None
    batch_size: int | None = None
    max_tokens: int | None = None
    bits: Mapping[str, int | None] = field(default_factory=dict)
    quantisation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dtype: Mapping[str, str] = field(default_factory=dict)
    base: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    system: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)
    trainable: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Any, where: Path) -> TrainingRecord:
        """From JSON. Raises ExportError, naming the file, when it is no record or of a newer version."""
        if not isinstance(content, Mapping):
            raise ExportError(f"{where} holds no record of a training: train or build the model again")
        if (why := unreadable(content)) is not None:
            raise ExportError(f"{where} cannot be read: {why}")
        names = [item.name for item in fields(cls)]
        missing = [name for name in names[:5] if content.get(name) is None]
        if missing:
            raise ExportError(f"{where} does not say {', '.join(missing)}: train or build the model again")
        return cls(**{name: content[name] for name in names if content.get(name) is not None})

    @classmethod
    def read(cls, folder: Path) -> TrainingRecord:
        """Of a folder of adapters. Raises ExportError."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as fault:
            raise ExportError(f"{path} cannot be read ({fault}): train or build the model again") from fault
        return cls.of(content, path)

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {"format": FORMAT, **asdict(self)}

    def write(self, folder: Path) -> None:
        """Write the file into a folder that is being made."""
        (folder / MANIFEST).write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")


def kept_text(validation: Mapping[str, Any]) -> str:
    """Of which step an adapter is, and why, in words, from a record's `validation`; "" without one."""
    if validation.get("step") is None:
        return ""
    loss, times = validation.get("loss"), validation.get("times")
    found = "no finite number" if loss is None else f"{loss:.4f}"
    why = f"the lowest of {times}" if validation.get("keep") == "best" else "the last step's"
    return f"iteration {validation['step']:,}, validation loss {found}, {why}"
