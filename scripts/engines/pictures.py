"""200 held-out questions of DigitsVQA, their pictures in all shapes that people upload."""

from __future__ import annotations

import ast
import base64
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

COUNT = 200
EVERY = 8
"""Of so many pictures one has each of the odd shapes."""


def strip(image: Image.Image, wide: bool) -> Image.Image:
    """3000 x 90 or 90 x 3000, the scene in the middle."""
    size = (3000, 90) if wide else (90, 3000)
    made = Image.new("RGB", size, image.getpixel((0, 0)))
    small = image.copy()
    small.thumbnail((90, 90))
    made.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    return made


def photograph(image: Image.Image) -> Image.Image:
    """1200 x 800, the scene large, as a camera gives it."""
    made = Image.new("RGB", (1200, 800), image.getpixel((0, 0)))
    large = image.resize((image.width * 8, image.height * 8), Image.Resampling.BICUBIC)
    made.paste(large, ((1200 - large.width) // 2, (800 - large.height) // 2))
    return made


def glass(image: Image.Image) -> Image.Image:
    """Transparent around the scene, over black."""
    made = Image.new("RGBA", (image.width + 60, image.height + 20), (0, 0, 0, 0))
    made.paste(image, (30, 10))
    return made


SHAPES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as drawn": lambda image: image,
    "3000 x 90": lambda image: strip(image, wide=True),
    "90 x 3000": lambda image: strip(image, wide=False),
    "1 x 1": lambda image: image.resize((1, 1)),
    "photograph": photograph,
    "grey": lambda image: image.convert("L"),
    "transparent": glass,
    "turned": lambda image: image,
}


def write(table: Path, folder: Path, count: int = COUNT) -> None:
    """Write the pictures and questions.json: `picture`, `question`, `shape`; `count` of 64 has every shape once."""
    csv.field_size_limit(1 << 30)
    folder.mkdir(parents=True)
    questions = []
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[:count]
    names = list(SHAPES)
    for place, row in enumerate(rows):
        scene = Image.open(io.BytesIO(base64.b64decode(row["image"]))).convert("RGB")
        odd = place % EVERY
        shape = names[1 + place // EVERY % (len(names) - 1)] if odd == 0 else names[0]
        picture = SHAPES[shape](scene)
        if shape == "turned":
            exif = Image.Exif()
            exif[0x0112] = 6
            name = f"{place:03}.jpg"
            picture.transpose(Image.Transpose.ROTATE_90).save(folder / name, quality=95, exif=exif)
        else:
            name = f"{place:03}.png"
            picture.save(folder / name)
        questions.append(
            {
                "picture": name,
                "question": f"{row['question']}\nAnswer the question using a single word or phrase.",
                "shape": shape,
                "answer": ast.literal_eval(row["answer"])[0],
            }
        )
    (folder / "questions.json").write_text(json.dumps(questions, indent=1), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
