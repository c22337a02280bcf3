"""How a model on disk wants to be asked: as its export says, else as the chat template of a published LLaVA does."""

from __future__ import annotations

from pathlib import Path

from moslora_xtuner.errors import EvaluationError, ExportError
from moslora_xtuner.export.form import FILE_NAME, LLAVA, ExportForm

CONFIG = "config.json"


def chat_format(folder: Path) -> ExportForm:
    """The form of a model's folder.

    Raises EvaluationError when there is none, it is incomplete, or it is of an export that cannot be asked.
    """
    if (folder / FILE_NAME).is_file():
        try:
            form = ExportForm.read(folder)
        except ExportError as fault:
            raise EvaluationError(str(fault)) from fault
        if form.kind != LLAVA:
            raise EvaluationError(
                f"{folder / FILE_NAME}: an export of the kind {form.kind!r} cannot be evaluated, only {LLAVA!r}. "
                "Export the model merged (`moslora export`)."
            )
        return form
    if (folder / CONFIG).is_file():
        return _of_chat_template(folder)
    raise EvaluationError(f"{folder} holds no {FILE_NAME}: it is no exported model. Make one with `moslora export`.")


def _of_chat_template(folder: Path) -> ExportForm:
    """One turn as the processor writes it, with our text in the place of the question's.

    Images are not padded: Hugging Face's own processor of LLaVA does not.
    """
    from transformers import AutoProcessor

    mark, image_token = "\x1f", "<image>"
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        image_token = str(getattr(processor, "image_token", None) or image_token)
        content = [{"type": "image"}, {"type": "text", "text": mark}]
        turn = str(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))
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
    return ExportForm(
        kind=LLAVA,
        name=folder.name,
        system_template="",
        instruction=f"{head}{{input}}{after}",
        bos=bos_written or adds,
        pad_image_to_square=False,
        image_token=image_token,
    )
