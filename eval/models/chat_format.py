"""How a model on disk wants to be asked, from moslora_export.json or its chat template; and its fingerprint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import EvaluationError

FILE_NAME = "moslora_export.json"
LLAVA = "config.json"


@dataclass(frozen=True)
class ExportForm:
    """The chat form and image handling of one model.

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
        """Read the form of a folder: what the export says, else what the chat template of a published LLaVA says.

        Raises EvaluationError when there is neither, or it is incomplete.
        """
        path = folder / FILE_NAME
        if path.is_file():
            return cls._of_export(path, folder.name)
        if (folder / LLAVA).is_file():
            return cls._of_chat_template(folder)
        raise EvaluationError(
            f"{folder} holds no {FILE_NAME}: it is no exported model. Make one with `moslora export`."
        )

    @classmethod
    def _of_export(cls, path: Path, name: str) -> ExportForm:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != "hf-llava":
                raise EvaluationError(
                    f"{path}: format {content['format']!r} cannot be evaluated, only 'hf-llava'. "
                    "Export the model merged (`moslora export`)."
                )
            template = content["template"]
            return cls(
                name=str(content.get("name") or name),
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

    @classmethod
    def _of_chat_template(cls, folder: Path) -> ExportForm:
        """One turn as the processor writes it, with our text in the place of the question's.

        Images are not padded: Hugging Face's own processor of LLaVA does not.
        """
        from transformers import AutoProcessor

        mark, image_token = "\x1f", "<image>"
        try:
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            image_token = str(getattr(processor, "image_token", None) or image_token)
            content = [{"type": "image"}, {"type": "text", "text": mark}]
            turn = str(
                processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            )
        except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
            raise EvaluationError(
                f"{folder} is a LLaVA without a usable chat template ({error}): give it one, or a {FILE_NAME}."
            ) from error
        before, found, after = turn.partition(mark)
        head, image, gap = before.partition(image_token)
        if not (found and image) or gap.strip() or mark in after:
            raise EvaluationError(f"{folder}: its chat template does not put the text after the image: {turn!r}.")
        bos = str(processor.tokenizer.bos_token or "")
        bos_written = bool(bos) and head.startswith(bos)
        head = head.removeprefix(bos) if bos_written else head
        head, after = (part.replace("{", "{{").replace("}", "}}") for part in (head, after))
        adds = processor.tokenizer("x")["input_ids"][:1] == [processor.tokenizer.bos_token_id]
        return cls(folder.name, "", f"{head}{{input}}{after}", (), "", bos_written or adds, False, image_token)

    def prompt(self, text: str) -> str:
        """The whole prompt of one turn, without BOS."""
        system = self.system_template.format(system=self.system) if self.system else ""
        return system + self.instruction.format(input=text, round=1)


def written_form(folder: Path) -> dict[str, Any]:
    """What the exporter says of a model beyond its chat form (adapter, seed and the like); empty without its file."""
    if not (folder / FILE_NAME).is_file():
        return {}
    content = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    form = ("format", "name", "template", "system", "bos", "pad_image_to_square", "image_token")
    return {"export": {name: value for name, value in content.items() if name not in form}}
