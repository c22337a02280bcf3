"""A conversation with a model on disk or behind a server: words and pictures in, the answer as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from moslora_xtuner.data.images.opening import from_bytes
from moslora_xtuner.data.tokens.chat_templates import TEMPLATES
from moslora_xtuner.data.tokens.tokenise import Pieces
from moslora_xtuner.errors import DataError, EvaluationError

from ..images import data_uri
from ..openai_client import Client
from .openai_server import ServedModel
from .resolve import LocalModel, Model

if TYPE_CHECKING:
    import torch

NEW_TOKENS = 512


_MARK = "\ue000"
"""A character of no script, around the places where people's words go in a template."""


def _with_words(content: Any, replace: Callable[[str], str]) -> Any:
    """A message's content, a text or parts, with other words."""
    if isinstance(content, str):
        return replace(content)
    return [{**part, "text": replace(part["text"])} if part["type"] == "text" else part for part in content]


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
    """Who answers."""

    @property
    def name(self) -> str: ...

    def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = NEW_TOKENS) -> Iterator[str]:
        """The answer to a conversation that ends with the user's turn, piece by piece, chosen greedily."""
        ...


def partner(model: Model) -> Partner:
    """Who answers for a model that `resolve.find` found."""
    if isinstance(model, ServedModel):
        return ServedPartner(model)
    assert isinstance(model, LocalModel)
    return LocalPartner(model)


class LocalPartner:
    """A LLaVA on disk, asked in its own chat form with the pictures that its training would have seen.

    Raises EvaluationError when the folder cannot be loaded.
    """

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
        """The prompt's tokens, one for a picture."""
        messages = [turn.as_message(lambda _: {"type": "image"}) for turn in turns]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        (ids,) = self.answerer.prompts.encoder([self._pieces(messages)])
        bos = self.tokenizer.bos_token_id
        return ids if not self.answerer.prompts.form.bos or ids[:1] == [bos] else [bos, *ids]

    def _pieces(self, messages: list[dict[str, Any]]) -> Pieces:
        """The template's text of a conversation, and in it what people wrote, in which a control token is text."""
        render = partial(self.tokenizer.apply_chat_template, add_generation_prompt=True, tokenize=False)
        words: list[str] = []

        def hidden(text: str) -> str:
            words.append(text)
            return f"{_MARK}{len(words) - 1}{_MARK}"

        marked = [{**message, "content": _with_words(message["content"], hidden)} for message in messages]
        # What looks like a picture's mark would be moved like one.
        tame = [word.replace(self.answerer.prompts.form.image_token, "") for word in words]
        places = iter(tame)
        plain = [{**item, "content": _with_words(item["content"], lambda _: next(places))} for item in messages]
        whole, at = str(render(plain)), 0
        pieces: list[tuple[str, bool]] = []
        for number, piece in enumerate(str(render(marked)).split(_MARK)):
            written = bool(number % 2)
            text = tame[int(piece)] if written else piece
            bare = written and not whole.startswith(text, at)  # a template may take blanks off
            at += len(text.strip() if bare else text)
            said = words[int(piece)] if written else piece
            pieces.append((said.strip() if bare else said, written))
        if at != len(whole):
            return ((str(render(messages)), False),)  # a template that does more with people's words
        return tuple(pieces)

    def reply(self, turns: Sequence[Turn], system: str | None = None, new_tokens: int = NEW_TOKENS) -> Iterator[str]:
        """The answer, piece by piece. Raises DataError for what is no picture or too long a conversation."""
        from threading import Thread

        import torch
        from transformers import TextIteratorStreamer

        embeds = self._embedded(turns, self.ids(turns, system))
        model: Any = self.answerer.model
        room = model.config.text_config.max_position_embeddings - embeds.shape[1]
        if room < 1:
            raise DataError(
                f"the conversation has {embeds.shape[1]} tokens with its pictures, the model reads "
                f"{model.config.text_config.max_position_embeddings}: begin a new one"
            )
        streamer = TextIteratorStreamer(self.tokenizer, skip_special_tokens=True)
        failed: list[BaseException] = []

        def generate() -> None:
            try:
                with torch.inference_mode():
                    model.language_model.generate(
                        inputs_embeds=embeds,
                        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
                        max_new_tokens=min(new_tokens, room),
                        do_sample=False,
                        eos_token_id=sorted(self.answerer.prompts.stop_ids),
                        pad_token_id=self.tokenizer.pad_token_id or 0,
                        streamer=streamer,
                    )
            except BaseException as fault:  # told in the caller's thread
                failed.append(fault)
                streamer.end()

        thread = Thread(target=generate, daemon=True)
        thread.start()
        yield from (piece for piece in streamer if piece)
        thread.join()
        if failed:
            raise EvaluationError(f"{self.name} cannot answer ({type(failed[0]).__name__}: {failed[0]})") from failed[0]

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


class ServedPartner:
    """A model behind a server that speaks OpenAI's protocol."""

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
