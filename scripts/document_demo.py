"""Take the picture of `moslora demo` in docs/serving.md: two models asked about a held-out picture in a real browser.

    python scripts/document_demo.py runs/quickstart/models/lora runs/quickstart/models/moslora \
        --picture runs/quickstart/data/images/PICTURE.png --browser chromium
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

QUESTIONS = ("Which digit is below the 0?", "What colour is the ink?")
TARGET = Path(__file__).parents[1] / "docs" / "results" / "demo.png"


def take(url: str, picture: Path, browser: str, target: Path) -> None:
    """Ask QUESTIONS about a picture at a page that runs, and write what is seen then."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1200, "height": 760})
        page.goto(url)
        page.wait_for_selector("#question textarea")
        page.set_input_files("#question input[type=file]", str(picture))
        page.wait_for_selector("#question .thumbnail-item")
        for count, question in enumerate(QUESTIONS, 1):
            page.fill("#question textarea", question)
            page.keyboard.press("Enter")
            for number in (0, 1):
                page.wait_for_function(
                    f"document.querySelectorAll('#chat-{number} .bot.message').length >= {count}", timeout=60_000
                )
            page.wait_for_selector("#question .submit-button")
            page.wait_for_timeout(1000)
        page.screenshot(path=target)
        opened.close()


def main() -> None:
    """Start the page, take the picture, end the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--target", type=Path, default=TARGET)
    given = parser.parse_args()
    browser = shutil.which(given.browser)
    if browser is None:
        parser.error(f"there is no {given.browser}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moslora_xtuner", "demo", *given.models, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline().startswith("demo: "):
                raise SystemExit("error: the page did not start: see the lines above")
            take(f"http://127.0.0.1:{port}", given.picture, browser, given.target)
        finally:
            process.send_signal(signal.SIGTERM)
    print(given.target)


if __name__ == "__main__":
    main()
