"""moslora_export.json: how an exported model wants to be asked; and the fingerprint of its weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from moslora_xtuner.errors import EvaluationError

FILE_NAME = "moslora_export.json"
_WHOLE = 64 * 1024**2
_BLOCK = 1024**2
_BLOCKS = 32


@dataclass(frozen=True)
class ExportForm:
    """The training template and image handling of one export.

    prompt = SYSTEM.format(system) (where there is one) + INSTRUCTION.format(input).
    """

    name: str
    system_template: str
    instruction: str
    stop_words: tuple[str, ...]
    system: str
    bos: bool
    pad_image_to_square: bool
    image_token: str

    @classmethod
    def read(cls, folder: Path) -> ExportForm:
        """Read the form of an export. Raises EvaluationError where it is missing or incomplete."""
        path = folder / FILE_NAME
        if not path.is_file():
            raise EvaluationError(
                f"{folder} holds no {FILE_NAME}: it is no exported model. Make one with `moslora export`."
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != "hf-llava":
                raise EvaluationError(
                    f"{path}: format {content['format']!r} cannot be evaluated, only 'hf-llava'. "
                    "Export the model merged (`moslora export`)."
                )
            template = content["template"]
            return cls(
                name=str(content.get("name") or folder.name),
                system_template=str(template.get("SYSTEM", "")),
                instruction=str(template["INSTRUCTION"]),
                stop_words=tuple(str(word) for word in template.get("STOP_WORDS", ())),
                system=str(content.get("system", "")),
                bos=bool(content.get("bos", True)),
                pad_image_to_square=bool(content.get("pad_image_to_square", True)),
                image_token=str(content.get("image_token", "<image>")),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(
                f"{path} cannot be used ({type(error).__name__}: {error}). Export the model again."
            ) from error

    def prompt(self, text: str) -> str:
        """The whole prompt of one turn, without BOS."""
        system = self.system_template.format(system=self.system) if self.system else ""
        return system + self.instruction.format(input=text, round=1)


def fingerprint(folder: Path) -> str:
    """A sha256 that changes when anything the answers depend on changes.

    Every file by name, size and content; of files over 64 MiB 32 blocks of 1 MiB, spread evenly, so that
    16 GB of weights take a second, not a minute. Logs and reports that stand beside the model do not count.
    """
    digest = hashlib.sha256()
    suffixes = {".json", ".safetensors", ".model", ".txt", ".jinja"}
    for path in sorted(item for item in folder.iterdir() if item.is_file() and item.suffix in suffixes):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as handle:
            if size <= _WHOLE:
                digest.update(handle.read())
                continue
            for number in range(_BLOCKS):
                handle.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                digest.update(handle.read(_BLOCK))
    return digest.hexdigest()
