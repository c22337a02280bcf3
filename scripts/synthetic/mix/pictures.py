"""Names of images as the datasets number them, and files of those names."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

LINKS = 30_000  # ext4 takes 65,000 names for a file
LARGEST_COCO, LARGEST_VG = 581_929, 2_417_997


class Names:
    """The images of one source: `count` numbers drawn from those the dataset has, formatted when asked for."""

    def __init__(self, source: str, count: int, rng: np.random.Generator) -> None:
        self.source = source
        largest = {"coco": LARGEST_COCO, "gqa": LARGEST_VG, "vg": LARGEST_VG, "ocr_vqa": 10**9}.get(source, 2**63 - 1)
        self.numbers = rng.choice(largest, count, replace=False)
        self.second = rng.random(count) < 0.4  # of Visual Genome's two folders: 64,346 and 43,903 images

    def id_and_path(self, index: int) -> tuple[str, str]:
        """A record's id and the image's path under the image folder."""
        number = int(self.numbers[index])
        match self.source:
            case "coco":
                return f"{number:012d}", f"coco/train2017/{number:012d}.jpg"
            case "gqa":
                return f"{number}", f"gqa/images/{number}.jpg"
            case "ocr_vqa":
                return (name := isbn(number)), f"ocr_vqa/images/{name}.jpg"
            case "textvqa":
                return f"{number:016x}", f"textvqa/train_images/{number:016x}.jpg"
        name = f"{'VG_100K_2' if self.second[index] else 'VG_100K'}/{number}"
        return name, f"vg/{name}.jpg"


def isbn(number: int) -> str:
    """ISBN-10 of nine digits: the tenth makes the sum of (10 - place) times digit divisible by 11; 10 is X."""
    digits = f"{number:09d}"
    check = -sum((10 - place) * int(digit) for place, digit in enumerate(digits)) % 11
    return f"{digits}{'X' if check == 10 else check}"


def jpeg(rng: np.random.Generator) -> bytes:
    """A picture of 24 x 18 random colours, about 1 KB."""
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (18, 24, 3), dtype=np.uint8)).save(stream, "JPEG", quality=75)
    return stream.getvalue()


def write_pictures(folder: Path, paths: Iterable[str], seed: int) -> int:
    """Make a file at each path: hard links to a few real ones, copies where links are refused; returns how many."""
    rng = np.random.default_rng([seed, 3])
    made, base, content = 0, "", b""
    folders: set[str] = set()
    for made, path in enumerate(paths, 1):
        place = os.path.join(folder, path)
        if (parent := os.path.dirname(place)) not in folders:
            os.makedirs(parent, exist_ok=True)
            folders.add(parent)
        if (made - 1) % LINKS == 0:
            base, content = place, jpeg(rng)
            Path(base).write_bytes(content)
            continue
        try:
            os.link(base, place)
        except FileExistsError:
            pass  # of an earlier run with the same settings: the folder's marker says so
        except OSError:
            Path(place).write_bytes(content)
    return made
