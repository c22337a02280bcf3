"""What stands behind the word MODEL: a folder or a hub's name of a LLaVA, a run to be exported first, a server."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from moslora_xtuner.atomic import read_json
from moslora_xtuner.digits_base import NAME, digits_base
from moslora_xtuner.errors import EvaluationError, ExportError, UsageError
from moslora_xtuner.export.form import FILE_NAME, ExportForm
from moslora_xtuner.paths import cache_folder
from moslora_xtuner.progress import note

from ..fingerprint import fingerprint
from ..tasks.prompts import Question
from ..tasks.registry import Benchmark
from .chat_format import CONFIG, chat_format
from .encoding import PromptIds
from .llava import LlavaAnswerer
from .openai_server import SERVED, ServedModel
from .precision import Precision, rounding
from .text_folders import called as own_name
from .text_folders import text_folders
from .text_model import TextModel
from .worker_pool import Answerer, InProcess, Pool, Processes, own_device


class Model(Protocol):
    """A model that can be asked.

    `sha256` names what the answers depend on: weights, chat form, number format. `facts` go into the manifest.
    """

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def facts(self) -> dict[str, Any]: ...

    def prompt(self, question: Question) -> str:
        """The text of which a change makes an answer stale."""
        ...

    def lengths(self, questions: list[Question]) -> list[int]:
        """How long each prompt is; questions of like length are answered together."""
        ...

    def batch_size(self, wanted: int) -> int:
        """Questions that one call of the pool's answerer gets."""
        ...

    def conditions(self, batch_size: int) -> str:
        """What the numbers behind an answer depend on beside weights, prompt and picture."""
        ...

    def pool(self, processes: int, batch_size: int) -> Pool:
        """What answers: the model in this process, or in several."""
        ...


@dataclass(frozen=True)
class LocalModel:
    """A LLaVA on disk, in stock Hugging Face form."""

    name: str
    source: str
    folder: Path
    form: ExportForm
    sha256: str
    precision: Precision
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, precision: Precision, source: str, name: str | None = None) -> LocalModel:
        """Raises EvaluationError when the folder is no such model."""
        form = chat_format(folder)
        facts = {"precision": precision.value, **({"export": {"source": dict(form.source)}} if form.source else {})}
        sha256 = hashlib.sha256(f"{fingerprint(folder)} {precision.value}".encode()).hexdigest()
        return cls(name or form.name, source, folder, form, sha256, precision, facts)

    def prompt(self, question: Question) -> str:
        """The prompt in the model's chat form."""
        return self.form.prompt(question.text)

    def lengths(self, questions: list[Question]) -> list[int]:
        """In tokens."""
        return self._prompt_ids.lengths(questions)

    @cached_property
    def _prompt_ids(self) -> PromptIds:
        return PromptIds(self.folder)

    def batch_size(self, wanted: int) -> int:
        """As wanted."""
        return wanted

    def conditions(self, batch_size: int) -> str:
        """The batch, the device and the libraries: each may round otherwise."""
        return rounding(batch_size)

    def pool(self, processes: int, batch_size: int) -> Pool:
        """One process is this one."""
        make = partial(_load, self.folder, self.precision)
        return InProcess(make) if processes == 1 else Processes(make, processes)


def _load(folder: Path, precision: Precision, number: int, count: int) -> Answerer:
    """The model of process `number` of `count`."""
    return LlavaAnswerer(folder, precision=precision, device=own_device(number, count))


def require_askable(model: Model, benchmarks: Sequence[Benchmark]) -> None:
    """Stop where a model cannot be asked a benchmark.

    Raises:
        UsageError: it knows no pictures, or it has a chat form of its own, which the protocol of labels has not.
    """
    text = isinstance(model, TextModel)
    odd = [item.dataset for item in benchmarks if (item.kind == "label") != text]
    if odd and text:
        raise UsageError(f"{model.name} is a language model and sees no pictures: {', '.join(odd)} cannot be asked")
    if odd:
        raise UsageError(
            f"{model.name} is no language model's folder: {', '.join(odd)} are asked in the authors' own prompt, "
            "without a chat form or a picture. Give a run that trained on text, an export of one, or a base model"
        )


def find(
    word: str,
    *,
    precision: Precision | None = None,
    download: bool = False,
    name: str | None = None,
    quiet: bool = False,
) -> Model:
    """The model that a word on the command line means.

    Args:
        word: a folder (an export, a run, adapters, a base model, a LLaVA or a language model as published), `digits`
            (the base that ships), a hub's name `OWNER/NAME`, or `openai:[NAME@]URL`.
        precision: by default bf16 on a GPU, fp32 on a CPU.
        download: whether a model of the hub that is not in its cache may be fetched.
        name: what reports call it; by default what it calls itself.
        quiet: no word of an export.

    Raises:
        UsageError: it is none of these.
        EvaluationError, ExportError: it is one, and broken.
    """
    if word.startswith(SERVED):
        if precision is not None:
            raise UsageError(f"{word}: how a served model is computed is its server's affair: leave --precision out")
        return ServedModel.read(word, name)
    import torch

    precision = precision or Precision.default("cuda" if torch.cuda.is_available() else "cpu")
    folder, called = Path(word), Path(word).resolve().name  # of the hub's OWNER/NAME too
    if word == NAME and not folder.exists():
        folder = digits_base()
    if not folder.is_dir():
        folder = _from_hub(word, download)
    if (text := text_folders(folder)) is not None:
        return TextModel.read(text, precision, word, name or own_name(folder) or called, folder)
    if not (folder / CONFIG).is_file() or not _is_llava(folder):
        made = _exported(folder, called, quiet)
        return LocalModel.read(made, precision, word, name or (None if called == "adapters" else called))
    return LocalModel.read(folder, precision, word, name or (None if (folder / FILE_NAME).is_file() else called))


def _is_llava(folder: Path) -> bool:
    if (folder / FILE_NAME).is_file():
        return True
    try:
        config = read_json(folder / CONFIG)
        kind, classes = str(config.get("model_type")), ", ".join(config.get("architectures") or ())
    except (OSError, ValueError, AttributeError, TypeError) as fault:
        raise EvaluationError(f"{folder / CONFIG} cannot be read ({fault}): make or fetch the model again.") from fault
    if kind.startswith("llava") and not (kind == "llava" and {"text_config", "vision_config"} <= config.keys()):
        # Taken for Hugging Face's it would be built in default sizes, without its own.
        raise EvaluationError(
            f"{folder} is a LLaVA in another layout (model_type {kind}, {classes or 'no class'}): only Hugging Face's "
            "LlavaForConditionalGeneration is read. Its publishers have that form under a name that ends in -hf or "
            "-transformers."
        )
    return kind == "llava"


def _from_hub(word: str, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", word):
        raise UsageError(
            f"{word} is no folder: give an export, a run's folder, a hub's name (OWNER/NAME) or openai:URL of a server."
        )
    try:
        return Path(snapshot_download(word, local_files_only=not download))
    except LocalEntryNotFoundError as fault:
        raise UsageError(
            f"{word} is no folder here and not in the hub's cache. Nothing is downloaded without being asked for: "
            "add --download, or give a folder."
            if not download
            else f"{word} cannot be fetched from the hub: {fault}"
        ) from fault
    except (HfHubHTTPError, HFValidationError, OSError) as fault:
        raise EvaluationError(f"{word} cannot be fetched from the hub: {fault}") from fault


def _exported(folder: Path, called: str, quiet: bool) -> Path:
    """A run, adapters or a base model, merged into a LLaVA in the user's cache; made once."""
    from moslora_xtuner.export.merge import export
    from moslora_xtuner.export.parts import find_parts
    from moslora_xtuner.output import MARKER

    try:
        parts = find_parts(folder)
    except ExportError as fault:
        raise UsageError(
            f"{folder} is no model that can be evaluated: it holds no export ({FILE_NAME}), no LLaVA as published "
            f"({CONFIG} of the type llava) and no finished run ({fault})."
        ) from fault
    pieces = (parts.llm, parts.visual_encoder, parts.projector, parts.llm_adapter, parts.visual_encoder_adapter)
    digest = hashlib.sha256(json.dumps(parts.facts, sort_keys=True).encode())
    for piece in pieces:
        there = piece is not None and Path(piece).is_dir()
        digest.update((fingerprint(Path(str(piece))) if there else str(piece)).encode())
    made = cache_folder() / "exports" / digest.hexdigest()[:16]
    if not (made / MARKER).is_file():
        note(f"exporting {folder} to {made} (kept for the next time; delete it at will)", quiet)
        export(folder, made, name=called)
    return made
