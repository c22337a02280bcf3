"""The page as people use it: a real browser, the real program, servers behind it that answer word by word."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import judge_server
import pytest
from PIL import Image

from moslora_xtuner.serving.demo import UPLOAD

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")
in_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine to open the page with")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Demo:
    """A running page, and who answers behind it."""

    url: str
    server: judge_server.Server
    process: subprocess.Popen[str]
    folder: Path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "secret.txt").write_text("a secret of the server")
    port = free_port()
    with judge_server.serving() as server:
        server.models = ["m", "n"]
        words = ["demo", f"openai:m@{server.url}", f"openai:n@{server.url}", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "moslora_xtuner", *words], stdout=subprocess.PIPE, text=True, cwd=folder
        )
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said == f"demo: http://127.0.0.1:{port} (Ctrl-C ends)\n"
            yield Demo(f"http://127.0.0.1:{port}", server, process, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.fixture
def page(demo: Demo) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.asked = []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(demo.url)
        opened.wait_for_selector("#question textarea")
        yield opened
        browser.close()


def ask(page: Any, text: str, *files: Path) -> None:
    if files:
        page.set_input_files("#question input[type=file]", [str(file) for file in files])
        page.wait_for_selector("#question .thumbnail-item")
    page.fill("#question textarea", text)
    page.keyboard.press("Enter")


def answers(page: Any, number: int, count: int) -> list[str]:
    """The last answers in one of the two conversations, once there are so many."""
    page.wait_for_function(f"document.querySelectorAll('#chat-{number} .bot.message').length >= {count}")
    page.wait_for_timeout(300)
    return [each.inner_text().strip() for each in page.query_selector_all(f"#chat-{number} .bot.message")]


@in_browser
def test_upload_ask_and_compare_two_models_side_by_side(demo: Demo, page: Any, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (200, 30, 30)).save(tmp_path / "red.png")
    ask(page, "what colour", tmp_path / "red.png")
    assert answers(page, 0, 1) == ["WHAT COLOUR"]
    assert answers(page, 1, 1) == ["WHAT COLOUR"]
    assert demo.server.images["what colour"].startswith("data:image/png;base64,")
    ask(page, "and now")
    assert answers(page, 0, 2)[1] == answers(page, 1, 2)[1]
    assert page.query_selector_all("#chat-0 .user img")
    assert not [
        button for button in page.query_selector_all("[title=Share], [aria-label=Share]") if button.is_visible()
    ]
    page.click("#anew")
    page.wait_for_function("document.querySelectorAll('.bot.message').length == 0")
    assert {urllib.parse.urlsplit(url).hostname for url in page.asked if not url.startswith(("data:", "blob:"))} == {
        "127.0.0.1"
    }  # nothing is fetched from elsewhere


@in_browser
def test_an_answer_is_shown_as_it_comes_and_can_be_stopped(demo: Demo, page: Any) -> None:
    demo.server.pause = 0.2
    try:
        ask(page, " ".join(f"w{number}" for number in range(100)))
        page.wait_for_function("document.querySelector('#chat-0 .bot.message')?.innerText.includes('W3')")
        assert "W90" not in page.inner_text("#chat-0")
        page.click("#question .stop-button")
        page.wait_for_selector("#question .submit-button")
        page.wait_for_timeout(1000)
        assert "W90" not in page.inner_text("#chat-0")
    finally:
        demo.server.pause = 0.0
    ask(page, "again")
    assert answers(page, 0, 2)[-1] == "AGAIN"


@in_browser
def test_what_is_wrong_is_told_on_the_page(demo: Demo, page: Any, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    ask(page, "what is it", tmp_path / "text.png")
    page.wait_for_selector(".toast-body")
    assert "not a picture that can be read" in page.inner_text(".toast-body")
    assert not page.query_selector_all(".bot.message")
    page.reload()
    page.wait_for_selector("#question textarea")
    (tmp_path / "large.png").write_bytes(bytes(UPLOAD + 1))
    page.set_input_files("#question input[type=file]", str(tmp_path / "large.png"))
    page.wait_for_selector(".toast-body")
    assert "exceed the maximum allowed size" in page.inner_text(".toast-body")
    page.reload()
    page.wait_for_selector("#question textarea")
    demo.server.away = True
    try:
        ask(page, "are you there")
        assert "does not answer" in answers(page, 0, 1)[0]
    finally:
        demo.server.away = False


def status(url: str, **options: Any) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read()


@pytest.mark.parametrize(
    "path",
    ["gradio_api/file={}", "gradio_api/file=../{}", "gradio_api/file=./secret.txt", "gradio_api/file=secret.txt",
     "static/..%2f..%2f..%2f..{}", "assets/..%2f..%2f..%2f..{}", "gradio_api/proxy=file://{}", "file={}"],
)  # fmt: skip
def test_no_file_of_the_server_can_be_read(demo: Demo, path: str) -> None:
    code, content = status(f"{demo.url}/{path.format(demo.folder / 'secret.txt')}")
    assert code in (400, 403, 404)
    assert b"a secret" not in content


def test_a_made_up_request_cannot_name_a_file_of_the_server(demo: Demo) -> None:
    """What the page itself sends, with a path that was never uploaded."""
    _, found = status(f"{demo.url}/config")
    first = next(each for each in json.loads(found)["dependencies"] if each["targets"][0][1] == "submit")
    file = {"path": str(demo.folder / "secret.txt"), "meta": {"_type": "gradio.FileData"}}
    sent = {
        "data": [{"text": "read", "files": [file]}, None, None, [], []],
        "fn_index": first["id"],
        "session_hash": "s",
    }
    code, _ = status(
        f"{demo.url}/gradio_api/queue/join",
        data=json.dumps(sent).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert code == 200  # it stands in the queue
    _, told = status(f"{demo.url}/gradio_api/queue/data?session_hash=s")
    assert b'"success":false' in told.replace(b" ", b"")
    assert b"a secret" not in told
    assert "read" not in demo.server.requests


def test_a_file_too_large_is_refused_by_the_server_too(demo: Demo) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../a.png"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    for size, wanted in ((10, 200), (UPLOAD + 1, 413)):
        body = head + bytes(size) + b"\r\n--x--\r\n"
        code, told = status(f"{demo.url}/gradio_api/upload", data=body, headers=kind)
        assert code == wanted
    assert b"exceeded maximum allowed size" in told


def test_only_this_machine_can_open_it(demo: Demo) -> None:
    port = urllib.parse.urlsplit(demo.url).port
    outside = {item[4][0] for item in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)} - {"127.0.0.1"}
    for address in outside:
        with socket.socket() as client:
            client.settimeout(5)
            assert client.connect_ex((address, port)) != 0
    second = [sys.executable, "-m", "moslora_xtuner", "demo", f"openai:m@{demo.server.url}", "--port", str(port)]
    done = subprocess.run(second, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken" in done.stderr
