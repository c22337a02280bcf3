"""A conversation with a model on disk or behind a server: words and pictures in, the answer as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moslora_xtuner.data.images.opening import from_bytes
from moslora_xtuner.data.tokens.chat_templates import TEMPLATES, get_template
from moslora_xtuner.errors import DataError, EvaluationError, UsageError
from moslora_xtuner.progress import note

from ..images import data_uri
from ..openai_client import Client
from .chat_pieces import chat_pieces
from .openai_server import ServedModel
from .resolve import LocalModel, Model
from .streaming import room_for, stream
from .text_form import Speech, TextForm, text_form
from .text_model import TextModel

if TYPE_CHECKING:
    import torch

NEW_TOKENS = 512


@dataclass(frozen=True)
class Turn:
    """What one side says.

    Attributes:
        role: `user` or `assistant`.
        text: the words.
        pictures: files' contents, before the words.
    """

    role: str
    text: str
    pictures: tuple[bytes, ...] = ()

    def as_message(self, picture: Any) -> dict[str, Any]:
        """The message of a chat API; `picture` makes a part of the content of a file's bytes."""
        if not self.pictures:
            return {"role": self.role, "content": self.text}
        parts = [*(picture(content) for content in self.pictures), {"type": "text", "text": self.text}]
        return {"role": self.role, "content": parts}


class Partner(Protocol):
    """Who answers.

    `sees`: whether it may be shown pictures. `remembers`: whether it takes a conversation that goes on after an answer;
    who does not is asked single questions. Of a server both are its own affair.
    """

    sees: bool
    remembers: bool

    @property
    def name(self) -> str: ...

    def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = NEW_TOKENS) -> Iterator[str]:
        """The answer to a conversation that ends with the user's turn, piece by piece, chosen greedily."""
        ...


def partner(model: Model, template: str | None = None) -> Partner:
    """Who answers for a model that `resolve.find` found.

    Args:
        model: the model.
        template: the name of the chat template that a language model is spoken to with, instead of its own.

    Raises UsageError for a template that does not exist, or a model that has to be spoken to in its own form.
    """
    if template is not None:
        get_template(template)
        if not isinstance(model, TextModel):
            raise UsageError(f"{model.name} is asked in a form of its own: leave --template out")
    if isinstance(model, ServedModel):
        return ServedPartner(model)
    if isinstance(model, TextModel):
        return TextPartner(model, template)
    assert isinstance(model, LocalModel)
    return LocalPartner(model)


class LocalPartner:
    """A LLaVA on disk, asked in its own chat form with the pictures that its training would have seen.

    Raises EvaluationError when the folder cannot be loaded.
    """

    sees = remembers = True

    def __init__(self, model: LocalModel) -> None:
        from .llava import LlavaAnswerer

        self.name, self.folder = model.name, model.folder
        self.answerer = LlavaAnswerer(model.folder, precision=model.precision)
        self.tokenizer = self.answerer.prompts.tokenizer
        self.tokenizer.chat_template = self._template(model)

    def _template(self, model: LocalModel) -> str:
        template = next((each for each in TEMPLATES.values() if each.instruction == model.form.instruction), None)
        if template is None:  # a LLaVA as published
            from transformers import AutoProcessor

            return str(AutoProcessor.from_pretrained(model.folder, local_files_only=True).chat_template)
        from moslora_xtuner.export.chat_template import jinja
        from moslora_xtuner.export.processor import first_space

        bos = self.tokenizer.bos_token if model.form.bos else ""
        return jinja(template, bos=bos, system=model.form.system, space=first_space(self.tokenizer))

    def ids(self, turns: Sequence[Turn], system: str | None = None) -> list[int]:
        """The prompt's tokens, one for a picture. Raises UsageError for what the chat template refuses."""
        form = self.answerer.prompts.form
        messages = [turn.as_message(lambda _: {"type": "image"}) for turn in turns]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        (ids,) = self.answerer.prompts.encoder([chat_pieces(self.tokenizer, messages, form.image_token)])
        bos = self.tokenizer.bos_token_id
        return ids if not form.bos or ids[:1] == [bos] else [bos, *ids]

    def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = NEW_TOKENS) -> Iterator[str]:
        """The answer, piece by piece. Raises DataError for what is no picture or too long a conversation."""
        import torch

        embeds = self._embedded(turns, self.ids(turns, system))
        model: Any = self.answerer.model
        longest = model.config.text_config.max_position_embeddings
        yield from stream(
            model.language_model.generate,
            self.tokenizer,
            self.name,
            prompted=False,
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            max_new_tokens=room_for(new_tokens, embeds.shape[1], longest, " with its pictures"),
            do_sample=False,
            eos_token_id=sorted(self.answerer.prompts.stop_ids),
            pad_token_id=self.tokenizer.pad_token_id or 0,
        )

    def _embedded(self, turns: Sequence[Turn], ids: Sequence[int]) -> torch.Tensor:
        import torch

        answerer = self.answerer
        token = self.tokenizer.convert_tokens_to_ids(answerer.prompts.form.image_token)
        row = torch.tensor(ids, device=answerer.device)
        with torch.inference_mode():
            words = answerer.model.get_input_embeddings()(row)
            marks = torch.nonzero(row == token).flatten().tolist()
            pictures = [content for turn in turns for content in turn.pictures]
            if len(marks) != len(pictures):
                raise DataError(f"{len(pictures)} pictures, but {len(marks)} times <image> in the words: leave it out")
            pieces, at = [], 0
            for mark, content in zip(marks, pictures, strict=True):
                pieces += [words[at:mark], answerer.features(content).to(words.dtype)]
                at = mark + 1
            return torch.cat([*pieces, words[at:]])[None]


class TextPartner:
    """A language model on disk that sees no pictures, spoken to as it was trained.

    Raises EvaluationError when it cannot be loaded, UsageError when its form is not its tokenizer's.
    """

    sees = False

    def __init__(self, model: TextModel, template: str | None = None) -> None:
        from .causal_lm import CausalAnswerer

        self.name = model.name
        form = TextForm() if model.folder is None else text_form(model.folder)
        form = form if template is None else TextForm(template, form.system)
        self.answerer = CausalAnswerer(model.folders, precision=model.precision)
        self.speech = Speech(model.folders, self.answerer.tokenizer, self.answerer.encoder, form)
        self.remembers = self.speech.remembers
        if self.speech.plain:
            note(f"{self.name} has no chat template: words are asked as they stand (--template NAME gives them a form)")
        elif not form.template and model.folders.adapter is not None:
            note(
                f"{self.name} does not say in what form it was trained: it is asked by the chat template of its folder "
                "or its base (--template NAME takes another one)"
            )

    def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = NEW_TOKENS) -> Iterator[str]:
        """The answer, piece by piece. Raises DataError for too long a conversation, UsageError for what has no form."""
        import torch
        from transformers import GenerationConfig

        require_no_pictures(self.name, any(turn.pictures for turn in turns))
        answerer, ids = self.answerer, self.speech.ids(turns, system)
        longest = getattr(answerer.model.config, "max_position_embeddings", None)
        row = torch.tensor([ids], device=answerer.device)
        settings = GenerationConfig(
            max_new_tokens=room_for(new_tokens, len(ids), longest),
            do_sample=False,
            pad_token_id=answerer.pad,
            eos_token_id=sorted(answerer.stops | self.speech.stops) or None,
        )
        yield from stream(
            answerer.model.generate,
            answerer.tokenizer,
            self.name,
            prompted=True,
            input_ids=row,
            attention_mask=torch.ones_like(row),
            generation_config=settings,
        )


def require_no_pictures(name: str, given: bool) -> None:
    """Raise UsageError where a model without eyes is shown a picture."""
    if given:
        raise UsageError(f"{name} is a language model and sees no pictures: ask it in words alone")


class ServedPartner:
    """A model behind a server that speaks OpenAI's protocol."""

    sees = remembers = True

    def __init__(self, model: ServedModel) -> None:
        self.name, self.model = model.name, model
        self.client = Client(model.url, retries=2)

    def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = NEW_TOKENS) -> Iterator[str]:
        """The answer, piece by piece. Raises EvaluationError when the server refuses or is away."""
        from openai import OpenAIError

        def picture(content: bytes) -> dict[str, Any]:
            return {"type": "image_url", "image_url": {"url": uri(content)}}

        messages = [turn.as_message(picture) for turn in turns]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        try:
            stream: Any = self.client.openai.chat.completions.create(
                model=self.model.model,
                messages=messages,  # type: ignore[arg-type]
                temperature=0,
                max_tokens=new_tokens,
                stream=True,
            )
            for chunk in stream:
                if chunk.choices and (piece := chunk.choices[0].delta.content):
                    yield piece
        except OpenAIError as fault:
            raise EvaluationError(f"{self.model.source} does not answer: {fault}") from fault


def uri(content: bytes) -> str:
    """A picture as an address; one of a format that servers do not read as PNG. Raises DataError."""
    try:
        return data_uri(content)
    except ValueError:
        made = BytesIO()
        from_bytes(content).save(made, "PNG")
        return data_uri(made.getvalue())


def read_picture(path: Path) -> bytes:
    """A picture file's bytes, after a look whether it is one. Raises DataError."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DataError(f"{path} cannot be read ({fault.strerror or fault})") from fault
    try:
        from_bytes(content)
    except DataError as fault:
        raise DataError(f"{path}: {fault}") from fault
    return content
