"""Two short records and the token store that `moslora data prepare` makes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ANSWER = "It is red, all of it, from the left edge to the right one."


def write_records(work: Path) -> tuple[Path, Path]:
    """The JSON and the folder of its pictures: one record with a picture, one of text alone."""
    images = work / "images"
    images.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((240, 320, 3), (200, 30, 30), np.uint8)).save(images / "red.jpg")
    asked = ("<image>\nWhat colour is this?", "Say what colour a ripe tomato has.")
    records = [
        {
            "id": str(number),
            **({"image": "red.jpg"} if "<image>" in question else {}),
            "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": ANSWER}],
        }
        for number, question in enumerate(asked)
    ]
    mix = work / "mix.json"
    mix.write_text(json.dumps(records), encoding="utf-8")
    return mix, images


def prepare(work: Path, llm: Path, store: Path, environment: dict[str, str]) -> None:
    """Make the store, in a process of its own.

    Raises:
        SystemExit: it was not made.
    """
    mix, images = write_records(work)
    command = [sys.executable, "-m", "moslora_xtuner", "data", "prepare", str(mix), "--images", str(images)]
    done = subprocess.run(
        [*command, "--model", str(llm), "-o", str(store)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"error: moslora data prepare ended with status {done.returncode}: {done.stderr[-500:]}")
