"""A judge, or a served model, on this machine that speaks OpenAI's protocol, with faults on order."""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from moslora_xtuner.eval.models.openai_server import PROBE
from moslora_xtuner.eval.openai_client import PLAIN


class Server(ThreadingHTTPServer):
    """Answers a prompt with its own words in capitals (or `says`), after the faults that were scripted for it.

    What a client asks to know the server again, or whether it is there, is counted apart.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: dict[str, list[str]] = defaultdict(list)
        self.answered: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.asides: Counter[str] = Counter()
        self.bodies: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by prompt, the requests without messages
        self.away = False
        self.models = ["m"]
        self.entry: dict[str, Any] = {}  # what /v1/models says of them beside the name
        self.scene = "A street."  # the answer to the fixed prompt by which a served model is known again
        self.refuses: Callable[[str], int] = lambda prompt: 0  # a status, always, or 0
        self.tokens = False  # whether max_tokens cuts: digits, blanks, words and signs are one token each
        self.images: dict[str, str] = {}  # by prompt, the address that came with it
        self.says: Callable[[str], str] = str.upper
        self.first_faults: dict[str, str] = {}  # by what the prompt ends with, at its first request
        self.pause = 0.0  # seconds between two words of a stream
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        server = self.server
        if isinstance(prompt, list):  # with a picture
            parts = {part["type"]: part[part["type"]] for part in prompt}
            prompt = str(parts["text"])
            server.images[prompt] = parts.get("image_url", {}).get("url", "")
        with server.lock:
            server.bodies[prompt].append({name: value for name, value in body.items() if name != "messages"})
        if prompt in (PLAIN, PROBE):
            with server.lock:
                server.asides[prompt] += 1
            status = 503 if server.away else server.refuses(prompt)
            known = self.completion(server.scene if prompt == PROBE else "Yes.")
            self.reply(status or 200, b'{"error": {"message": "no"}}' if status else known)
            return
        with server.lock:
            server.requests[prompt] += 1
            ends = [text for text in server.first_faults if prompt.rstrip().endswith(text)]
            if ends and server.requests[prompt] == 1:
                server.script[prompt].append(server.first_faults[ends[0]])
            fault = "503" if server.away else server.script[prompt].pop(0) if server.script[prompt] else ""
            fault = fault or str(server.refuses(prompt) or "")
        if fault == "slow":
            time.sleep(0.6)
        if fault.isdigit():
            self.reply(int(fault), b'{"error": {"message": "later"}}')
            return
        answers: dict[str, bytes] = {
            "nonsense": b"<html>gateway</html>",
            "half": b'{"choices": [{"mess',
            "no choices": b"{}",
            "empty": self.completion(""),
            "null": self.completion(None),
            "list": self.completion([{"type": "text", "text": "1.0"}]),
            "nested": b"[" * 100_000,
        }
        if body.get("stream"):
            self.stream(server.says(prompt))
            return
        said = server.says(prompt)
        pieces = re.findall(r"\s+|\d|[^\W\d]+|.", said)
        most = body.get("max_tokens", len(pieces)) if server.tokens else len(pieces)
        cut = "stop" if len(pieces) < most or not server.tokens else "length"
        whole = answers.get(fault, self.completion("".join(pieces[:most]), cut))
        if fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[:10])
            self.close_connection = True
            return
        with server.lock:
            server.answered[prompt] += fault == ""
        self.reply(200, whole)

    def do_GET(self) -> None:
        entry = {"object": "model", "created": int(time.time()), "owned_by": "me", **self.server.entry}
        listed = [{"id": name, **entry} for name in self.server.models]
        status = 404 if self.server.away else 200
        self.reply(status, json.dumps({"object": "list", "data": listed}).encode())

    def completion(self, text: Any, why: str = "stop") -> bytes:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": why}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return json.dumps(body).encode()

    def stream(self, text: str) -> None:
        """The answer word by word, as server-sent events."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for word in text.split(" "):
            time.sleep(self.server.pause)
            choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
            body = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(body)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "0.05")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Server]:
    """A server that runs."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield running
        finally:  # else a test that fails would never end
            running.shutdown()
            thread.join()


def ask_again_sooner(patch: pytest.MonkeyPatch) -> None:
    """Requests that fail are put again as often as ever, but sooner."""
    patch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    patch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
