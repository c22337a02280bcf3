"""LLaVA-1.5's instruction mix as it was published: what it holds, and where its images come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One source of the mix.

    Attributes:
        name: as people call it.
        folder: the first folder of its image paths, '' for text alone.
        records: in the published `llava_v1_5_mix665k.json`.
        where: what to download for its images, as LLaVA's README lists it.
    """

    name: str
    folder: str
    records: int
    where: str


PARTS = (
    Part("coco", "coco", 364_100, "http://images.cocodataset.org/zips/train2017.zip -> coco/train2017/"),
    Part("gqa", "gqa", 72_140, "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip -> gqa/images/"),
    Part("ocr_vqa", "ocr_vqa", 80_000, "the download script that LLaVA's README links, all as .jpg -> ocr_vqa/images/"),
    Part(
        "textvqa",
        "textvqa",
        21_953,
        "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip -> textvqa/train_images/",
    ),
    Part(
        "vg",
        "vg",
        86_417,
        "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip and images2.zip -> vg/VG_100K/, vg/VG_100K_2/",
    ),
    Part("text only", "", 40_688, "no images"),
)
MOST = 10
"""Folders that are no part of the mix that get a line of their own."""
RECORDS = sum(part.records for part in PARTS)
"""665,298."""


@dataclass(frozen=True)
class Row:
    """One line of the table of sources.

    Attributes:
        name: of the part, or the folder.
        found: its records.
        expected: in the published mix; None where it is no part of that.
        missing: records whose image is not there.
        where: where to get it, when something is missing.
    """

    name: str
    found: int
    expected: int | None
    missing: int
    where: str


def source_table(by_folder: Counter[str], missing: Counter[str]) -> list[Row]:
    """Records by source, beside those of the published mix where the data is like it (three of its image folders)."""
    is_mix = sum(bool(by_folder[part.folder]) for part in PARTS if part.folder) >= 3
    known = {part.folder: part for part in PARTS} if is_mix else {"": PARTS[-1]}
    others = Counter({folder: count for folder, count in by_folder.items() if folder not in known and count})
    shown = [folder for folder, _ in others.most_common(MOST)]
    rows = []
    for folder in [*known, *sorted(shown)]:
        part = known.get(folder)
        expected = part.records if part and is_mix else None
        lacks = missing[folder] > 0 or (expected is not None and by_folder[folder] < expected and folder != "")
        name = part.name if part else "(no folder)" if folder == "." else f"{folder}/"
        rows.append(Row(name, by_folder[folder], expected, missing[folder], part.where if part and lacks else ""))
    if rest := others.keys() - set(shown):
        found, gone = (sum(counter[folder] for folder in rest) for counter in (by_folder, missing))
        rows.append(Row(f"{len(rest)} more folders", found, None, gone, ""))
    return rows
