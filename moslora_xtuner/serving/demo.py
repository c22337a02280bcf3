"""A web page to talk with one model, or with two side by side; on this machine alone."""

from __future__ import annotations

import os
import queue
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import MoSLoRAError, SetupError, UsageError
from ..eval.models.conversation import Partner, Turn, read_picture, require_no_pictures

HOST = "127.0.0.1"
UPLOAD = 20 << 20
"""Bytes of a picture's file at most. Its pixels are limited where it is opened (data/images/opening.py)."""
SESSIONS = 100
"""So many visitors' conversations, pictures included, are kept in memory; the oldest goes first."""
INSTALL = 'pip install "moslora-xtuner[demo]"'
STYLE = """
button[title="Share"], button[aria-label="Share"] { display: none !important; }
.message img { max-height: 16rem; }
"""
"""WORK-AROUND gradio 6.17 (js/image, in a chatbot): a picture in a conversation has a button that uploads it to
huggingface.co, whatever `buttons` says. Can go when it follows `buttons`."""
Message = dict[str, Any]


class Room:
    """Who answers on a page, one visitor at a time for each.

    Args:
        partners: one or two.
        system: the system prompt; None leaves each model's own.
        new_tokens: of an answer at most.
    """

    def __init__(self, partners: Sequence[Partner], system: str | None, new_tokens: int) -> None:
        self.partners, self.system, self.new_tokens = list(partners), system, new_tokens
        self._locks = [threading.Lock() for _ in partners]

    def reply(self, number: int, turns: Sequence[Turn]) -> Iterator[str]:
        """One partner's answer, piece by piece; a second visitor waits for the first."""
        with self._locks[number]:
            partner = self.partners[number]
            yield from partner.reply(turns if partner.remembers else turns[-1:], self.system, self.new_tokens)

    def replies(self, turns: Sequence[Sequence[Turn]]) -> Iterator[tuple[int, str | MoSLoRAError | None]]:
        """All partners' answers as they come: whose, and a piece, the fault that ended it, or None at its end."""
        said: queue.SimpleQueue[tuple[int, str | MoSLoRAError | None]] = queue.SimpleQueue()

        def run(number: int) -> None:
            try:
                for piece in self.reply(number, turns[number]):
                    said.put((number, piece))
                said.put((number, None))
            except MoSLoRAError as fault:
                said.put((number, fault))
            except Exception as fault:
                said.put((number, MoSLoRAError(f"{type(fault).__name__}: {fault}")))

        for number in range(len(self.partners)):
            threading.Thread(target=run, args=(number,), daemon=True).start()
        for _ in self.partners:
            while True:
                number, piece = said.get()
                yield number, piece
                if not isinstance(piece, str):
                    break


def asked(message: Message) -> tuple[Turn, list[Message]]:
    """What a visitor sent as a turn, and as messages to show. Raises DataError, UsageError."""
    files = [Path(file) for file in message.get("files") or ()]
    text = str(message.get("text") or "").strip()
    if not text:
        raise UsageError("write a question beside the picture" if files else "write a question")
    pictures = tuple(read_picture(file) for file in files)
    shown: list[Message] = [{"role": "user", "content": {"path": str(file)}} for file in files]
    return Turn("user", text, pictures), [*shown, {"role": "user", "content": text}]


def build(room: Room) -> Any:
    """The page as Gradio's Blocks; nothing of it can be called but by the page itself."""
    import gradio

    count = len(room.partners)
    names = [partner.name for partner in room.partners]
    labels = [p.name if p.remembers else f"{p.name} (each question by itself)" for p in room.partners]
    sees = any(partner.sees for partner in room.partners)
    with gradio.Blocks(title=" and ".join(names), analytics_enabled=False, fill_height=True, fill_width=True) as page:
        states = [gradio.State([]) for _ in names]
        with gradio.Row(scale=1):
            chats = [
                gradio.Chatbot(
                    label=label, elem_id=f"chat-{number}", scale=1, height="70vh", render_markdown=False,
                    allow_tags=False, feedback_options=None, buttons=["copy"], allow_file_downloads=False,
                )
                for number, label in enumerate(labels)
            ]  # fmt: skip
        box = gradio.MultimodalTextbox(
            elem_id="question", file_types=["image"], file_count="multiple", sources=["upload"] if sees else [],
            placeholder=f"A question{'; pictures by the button on the left, or dropped here' * sees}", autofocus=True,
            show_label=False,
        )  # fmt: skip
        anew = gradio.Button("New conversation", elem_id="anew", size="sm")

        def take(message: Message, *now: Any) -> list[Any]:
            turns, shown = now[:count], now[count:]
            try:
                turn, messages = asked(message)
                require_no_pictures(" and ".join(names), bool(turn.pictures) and not sees)
            except MoSLoRAError as fault:
                raise gradio.Error(str(fault), duration=None, print_exception=False) from fault
            busy = gradio.MultimodalTextbox(value=None, submit_btn=False, stop_btn=True)
            return [busy, *([*each, turn] for each in turns), *([*each, *messages] for each in shown)]

        def answer(*now: Any) -> Iterator[list[Any]]:
            turns, shown = [list(each) for each in now[:count]], [list(each) for each in now[count:]]
            texts = [""] * count
            for each in shown:
                each.append({"role": "assistant", "content": ""})
            for number, piece in room.replies(turns):
                if isinstance(piece, str):
                    texts[number] += piece
                    shown[number][-1] = {"role": "assistant", "content": texts[number].strip()}
                elif piece is None:
                    turns[number] = [*turns[number], Turn("assistant", texts[number].strip())]
                else:  # what failed is no part of the conversation
                    turns[number] = turns[number][:-1]
                    shown[number][-1] = {"role": "assistant", "content": f"error: {piece}"}
                yield [*turns, *shown]

        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        taken = box.submit(take, [box, *states, *chats], [box, *states, *chats], **private)
        answered = taken.success(answer, [*states, *chats], [*states, *chats], **private)

        def empty() -> list[Turn]:
            return []

        def idle() -> Any:
            return gradio.MultimodalTextbox(submit_btn=True, stop_btn=False)

        answered.then(idle, None, box, **private)
        box.stop(
            lambda *turns: [idle(), *(_whole(each) for each in turns)], states, [box, *states],
            cancels=[answered], **private,
        )  # fmt: skip
        anew.click(
            lambda: [idle(), *([] for _ in range(2 * count))], None, [box, *states, *chats],
            cancels=[answered], **private,
        )  # fmt: skip
        for chat, state in zip(chats, states, strict=True):
            chat.clear(empty, None, state, **private)
    return page


def _whole(turns: Sequence[Turn]) -> list[Turn]:
    """A conversation without a question whose answer was broken off."""
    return list(turns[:-1] if turns and turns[-1].role == "user" else turns)


def show(room: Room, port: int) -> None:
    """Show the page at 127.0.0.1 until Ctrl-C or SIGTERM.

    Nothing is loaded from elsewhere or told to anybody; uploads lie in a folder of their own, which goes at the end.

    Raises:
        SetupError: Gradio is not installed.
        UsageError: the port is taken.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory(prefix="moslora-demo-") as uploads:
        # Gradio reads them at its import. Its usual folder of uploads is shared with every other page of the machine.
        os.environ |= {"GRADIO_TEMP_DIR": uploads, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
        for name in ("GRADIO_ALLOWED_PATHS", "GRADIO_SHARE", "GRADIO_SERVER_NAME", "GRADIO_ROOT_PATH"):
            os.environ.pop(name, None)
        try:
            import gradio
        except ImportError as fault:
            raise SetupError(f"Gradio is not installed ({fault}): {INSTALL}") from fault
        warnings.filterwarnings("ignore", module=r"gradio\.")  # of what it calls: nothing that a visitor could mend
        page = build(room)
        page.queue(default_concurrency_limit=4)
        try:
            page.launch(
                server_name=HOST, server_port=port, share=False, inbrowser=False, quiet=True, prevent_thread_lock=True,
                max_file_size=UPLOAD, allowed_paths=[], ssr_mode=False, pwa=False, mcp_server=False,
                enable_monitoring=False, state_session_capacity=SESSIONS, footer_links=[], show_error=True,
                theme=gradio.themes.Default(), css=STYLE, strict_cors=True,
            )  # fmt: skip
        except OSError as fault:
            raise UsageError(f"port {port} of {HOST} is taken: give another one with --port") from fault
        try:
            print(f"demo: http://{HOST}:{port} (Ctrl-C ends)", flush=True)  # noqa: T201
            ended.wait()
        finally:
            page.close(verbose=False)
