"""Pictures of pages for docs/, taken by a browser without a window."""

from __future__ import annotations

import subprocess
from pathlib import Path

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=3000")


def take(browser: str, page: Path, picture: Path, width: int, height: int) -> None:
    """Open a page with a browser's command (chromium, say) and write what a window of that size shows."""
    size, target = f"--window-size={width},{height}", f"--screenshot={picture}"
    subprocess.run([browser, *OPTIONS, size, target, page.as_uri()], check=True, capture_output=True)
