"""How a language model without pictures is spoken to: as it was trained, else by its tokenizer's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner.data.tokens.chat_templates import TEMPLATES, Template, get_template, missing_tokens
from moslora_xtuner.data.tokens.tokenise import Encoder
from moslora_xtuner.errors import ConfigError, EvaluationError, ExportError, UsageError
from moslora_xtuner.export.form import ADAPTER, FILE_NAME, ExportForm
from moslora_xtuner.export.processor import opening, training_template
from moslora_xtuner.llm.load import TOKENIZER_CONFIG, load_tokenizer
from moslora_xtuner.training.artifacts import ADAPTERS, LLM, MANIFEST, TrainingRecord

from .chat_pieces import chat_pieces
from .text_folders import TextFolders

if TYPE_CHECKING:
    from .conversation import Turn


@dataclass(frozen=True)
class TextForm:
    """What is known of it without the tokenizer.

    Attributes:
        template: the name of the template that it was trained with; "" leaves it to the tokenizer.
        system: the system prompt that its records carried.
    """

    template: str = ""
    system: str = ""


def text_form(folder: Path) -> TextForm:
    """The form that a run or an export says, also of an adapter inside one; that of other folders is a tokenizer's.

    Raises EvaluationError where what says it cannot be read.
    """
    within = {ADAPTER: (folder.parent / FILE_NAME,), LLM: (folder.parent / MANIFEST,)}.get(folder.name, ())
    files = (folder / FILE_NAME, folder / MANIFEST, folder / ADAPTERS / MANIFEST, *within)
    said = next((file for file in files if file.is_file()), None)
    try:
        if said is None:
            return TextForm()
        if said.name == FILE_NAME:
            form = ExportForm.read(said.parent)
            return TextForm(_named(form.instruction), form.system)
        record = TrainingRecord.read(said.parent)
        return TextForm(record.template, record.system)
    except ExportError as fault:
        raise EvaluationError(str(fault)) from fault


def _named(instruction: str) -> str:
    return next((name for name, template in TEMPLATES.items() if template.instruction == instruction), "")


class Speech:
    """What people say as the tokens that a language model reads.

    Args: `folders` of the model; its `tokenizer` and `encoder`; its `form`.

    Attributes:
        template: that it is spoken to with; None where the tokenizer's own is, or none.
        plain: whether words are asked as they stand, for want of a template.
        remembers: whether a conversation may go on after an answer.

    Raises:
        UsageError: the tokenizer lacks a token of the template, or there is none of this name.
        EvaluationError: the adapter's tokenizer cannot be read.
    """

    def __init__(self, folders: TextFolders, tokenizer: Any, encoder: Encoder, form: TextForm) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder
        self.template: Template | None = get_template(form.template) if form.template else None
        if self.template is not None:
            if missing := missing_tokens(tokenizer, form.template):
                raise UsageError(f"{folders.base} has no token {' or '.join(missing)}: {form.template} is not its form")
            bos = opening(tokenizer, self.template)
            written: str | None = training_template(tokenizer, self.template, bos, form.system, pictures=False)
        else:
            written = _own_template(folders, tokenizer)
        self.plain = written is None
        self.tokenizer.chat_template = written
        self.remembers = not (self.plain or (self.template is not None and self.template.one_turn))

    @property
    def stops(self) -> set[int]:
        """The template's tokens that end an answer."""
        words = self.template.stop_words if self.template is not None else ()
        return set(self.tokenizer.convert_tokens_to_ids(list(words)))

    def ids(self, turns: Sequence[Turn], system: str | None = None) -> list[int]:
        """A conversation's tokens; a control token in what people wrote is text, as in training.

        Raises UsageError for a system prompt without a place, or turns where there is one.
        """
        if len(turns) > 1 and not self.remembers:
            raise UsageError("the model is asked single questions: a conversation cannot go on")
        if self.plain:
            if system:
                raise UsageError("the model has no chat template, so a system prompt has no place: leave it out")
            (ids,) = self.encoder([((turns[-1].text, True),)])
            return self.encoder.bos + ids
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        (ids,) = self.encoder([chat_pieces(self.tokenizer, messages)])
        return ids


def _own_template(folders: TextFolders, tokenizer: Any) -> str | None:
    """The chat template that the adapter's folder brings, else the model's."""
    found = tokenizer.chat_template
    if folders.adapter is not None and (folders.adapter / TOKENIZER_CONFIG).is_file():
        try:
            found = load_tokenizer(folders.adapter, local_files_only=True).chat_template or found
        except ConfigError as fault:
            raise EvaluationError(str(fault)) from fault
    if isinstance(found, dict):  # several, by name
        found = found.get("default", next(iter(found.values()), None))
    return str(found) if found else None
