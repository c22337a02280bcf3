"""Make the like of LLaVA-1.5's instruction mix, to measure how fast and in how much memory it is prepared.

    python scripts/make_mix_like.py 665298 -o DIR

`llava_v1_5_mix665k.json` and its images cannot be passed on. DIR/mix.json has the same sources, shares, layout of
paths and, as far as known, lengths; its words mean nothing. The same seed and number give the same bytes.

Published, and kept: the records of each source (haotian-liu/LLaVA issue 657) and the thousands of each dataset in
COCO (table of the mixture, arXiv 2310.03744); one record an image for GQA, OCR-VQA, TextCaps and Visual Genome, about
three for COCO; the instructions; questions merged by image, ten annotations of Visual Genome, fewer than ten of
RefCOCO; ShareGPT cut at 2,048 tokens; `<image>` before or after the first question; "model" in ShareGPT's records.

Known of a similar set: about 290 tokens of text a record; 4.4 characters a token of English. Assumed, so that both
come out: 2.2 times as many sentences in LLaVA-Instruct's answers as the sizes of its files give (`LONGER` in
synthetic/mix/turns.py); the lengths of ShareGPT's conversations (lognormal, cut; more than half of them, 3.5 % of all
records, exceed 1,472 tokens), one in eight of them not English, the number of turns where none is published. Frequent
words are English ones by Zipf's law, one word in 16 is made of syllables. No sentence means anything, and each comes
up more often than in a real text, which flatters what keeps words it has seen in a cache.

Images are 24 x 18 random colours. With `--images hardlinks` every path is there, as a hard link to one of a few
files: looking a path up costs what it costs, reading and decoding one costs far less than a photograph does.
`one-per-source` names one file in all records of a source. Both have the same ids and the same text.
"""

from __future__ import annotations

import argparse
import json
import os
import string
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from synthetic.mix.pictures import Names, write_pictures
from synthetic.mix.text import Dice, Text
from synthetic.mix.tokenizer import train_tokenizer
from synthetic.mix.turns import MAKERS

from moslora_xtuner.atomic import atomic_write
from moslora_xtuner.errors import MoSLoRAError, UsageError
from moslora_xtuner.output import claim, need_space, remove_partial

KIND = "mix like LLaVA-1.5's"
RECORDS = {
    "coco": 364_100, "gqa": 72_140, "ocr_vqa": 80_000, "textvqa": 21_953, "vg": 86_417, "text only": 40_688,
}  # fmt: skip
IMAGES = {"coco": 118_287, "gqa": 72_140, "ocr_vqa": 80_000, "textvqa": 21_953, "vg": 86_417}
PUBLISHED = sum(RECORDS.values())
SOURCES = list(RECORDS)
TEXT_ONLY = SOURCES.index("text only")
LAYOUTS = ("hardlinks", "one-per-source")
PARTIAL = ".mix.json.partial-made"  # a name that output.remove_partial knows
BYTES = 1800  # of a record in the file, at most on average
LETTERS = string.ascii_letters + string.digits


def shares(records: int) -> dict[str, int]:
    """How many records each source has: the published shares, the largest remainders rounded up."""
    exact = {name: records * count for name, count in RECORDS.items()}  # in parts of PUBLISHED: whole numbers
    made = {name: part // PUBLISHED for name, part in exact.items()}
    for name in sorted(exact, key=lambda n: -(exact[n] % PUBLISHED))[: records - sum(made.values())]:
        made[name] += 1
    return made


@dataclass
class Plan:
    """Which source and which image each record has.

    Attributes:
        order: the source's number of each record.
        names: the images of each source.
        images: of each source, the image's number in `names` for one record after the other.
    """

    order: np.ndarray
    names: dict[str, Names]
    images: dict[str, np.ndarray]

    def used(self) -> Iterator[str]:
        """The paths that records name, each once."""
        for source, indices in self.images.items():
            for index in np.unique(indices):
                yield self.names[source].id_and_path(index)[1]


def make_plan(records: int, seed: int) -> Plan:
    """Draw the order of the sources and the image of each record."""
    rng = np.random.default_rng([seed, 2])
    counts = shares(records)
    order = rng.permutation(np.repeat(np.arange(len(SOURCES), dtype=np.int8), list(counts.values())))
    # Stock XTuner takes the columns from the first record: where that has no image, all images are lost, and a
    # comparison with it would be one of text alone.
    first = int(np.argmax(order != TEXT_ONLY))
    order[[0, first]] = order[[first, 0]]
    names, images = {}, {}
    for source, whole in IMAGES.items():
        pool = -(-whole * records // PUBLISHED)
        names[source] = Names(source, pool, rng)
        # One record an image where there are as many: what is said about it was merged.
        alone = counts[source] <= pool
        images[source] = rng.permutation(pool)[: counts[source]] if alone else rng.integers(pool, size=counts[source])
    return Plan(order, names, images)


@dataclass
class Tally:
    """Records, turns and characters of text (without the image's mark), by source."""

    counts: dict[str, list[int]] = field(default_factory=lambda: {name: [0, 0, 0] for name in SOURCES})

    def add(self, source: str, turns: list[tuple[str, str]]) -> None:
        """Count a record."""
        count = self.counts[source]
        count[0] += 1
        count[1] += len(turns)
        count[2] += sum([len(question) + len(answer) for question, answer in turns])

    def rows(self) -> dict[str, dict[str, float]]:
        """Records and the means of each source, then of all."""
        found = {**self.counts, "all": [sum(column) for column in zip(*self.counts.values(), strict=True)]}
        return {
            name: {"records": n, "turns": round(turns / max(n, 1), 2), "characters": round(length / max(n, 1), 1)}
            for name, (n, turns, length) in found.items()
        }


def make_records(plan: Plan, seed: int, layout: str, tally: Tally) -> Iterator[dict[str, Any]]:
    """The records, one by one, counted on the way."""
    dice, text = Dice(seed), Text(seed)
    left = {source: iter(indices) for source, indices in plan.images.items()}
    only = {source: names.id_and_path(0)[1] for source, names in plan.names.items()}
    for number in plan.order:
        source = SOURCES[number]
        turns = MAKERS[source](dice, text)
        tally.add(source, turns)
        if source in left:
            name, path = plan.names[source].id_and_path(next(left[source]))
            question, answer = turns[0]
            question = f"<image>\n{question}" if dice.random() < 0.5 else f"{question}\n<image>"
            turns[0] = (question, answer)
            record = {"id": name, "image": path if layout == "hardlinks" else only[source]}
        else:
            record = {"id": f"{dice.join(LETTERS, 7, 7, '')}_{dice.between(0, 60)}", "model": ""}
        messages = []
        for question, answer in turns:
            messages += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
        yield {**record, "conversations": messages}


def make_mix(folder: Path, records: int, seed: int = 0, layout: str = LAYOUTS[0]) -> dict[str, Any]:
    """Write mix.json, images/ and mix.stats.json into a folder of their own; returns the statistics.

    A folder that was begun with the same settings is written again, to the same bytes.

    Raises:
        OutputError: the folder holds something else, or the disk is full.
        UsageError: fewer than one record is asked for.
    """
    if records < 1:
        raise UsageError(f"{records} records: ask for at least 1")
    need_space(folder, records * BYTES / 1e9)
    claim(folder, KIND, {"records": records, "seed": seed, "images": layout})
    remove_partial(folder)
    plan, tally = make_plan(records, seed), Tally()
    with (folder / PARTIAL).open("w", encoding="ascii", buffering=1 << 20) as stream:
        between = "[\n"
        for record in make_records(plan, seed, layout, tally):
            stream.write(between)
            stream.write(json.dumps(record))
            between = ",\n"
        stream.write("\n]\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(folder / PARTIAL, folder / "mix.json")
    paths = plan.used() if layout == "hardlinks" else (names.id_and_path(0)[1] for names in plan.names.values())
    images = write_pictures(folder / "images", paths, seed)
    rows = tally.rows()
    text_only = rows["text only"]["records"]
    stats: dict[str, Any] = {
        "seed": seed,
        "records": records,
        "with image": records - text_only,
        "text only": text_only,
    }
    means = {"turns mean": rows["all"]["turns"], "characters mean": rows["all"]["characters"]}
    size = {"images": images, "bytes": (folder / "mix.json").stat().st_size}
    stats |= {**means, **size, "sources": rows}
    atomic_write(folder / "mix.stats.json", json.dumps(stats, indent=2) + "\n")
    return stats


def table(stats: dict[str, Any]) -> str:
    """The statistics, a line each, then a row for each source."""
    lines = [f"{name:<16}{value:>14,}" for name, value in stats.items() if name != "sources"]
    lines += ["", f"{'source':<16}{'records':>14}{'turns':>8}{'characters':>12}"]
    for name, row in stats["sources"].items():
        lines.append(f"{name:<16}{row['records']:>14,}{row['turns']:>8.2f}{row['characters']:>12,.1f}")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, write, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=int, help=f"{PUBLISHED} in the published file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="a folder of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", choices=LAYOUTS, default=LAYOUTS[0])
    parser.add_argument("--tokenizer", type=Path, help="folder for a tokenizer like LLaMA-3's, trained on the file")
    args = parser.parse_args()
    began = time.perf_counter()
    try:
        print(table(make_mix(args.out, args.records, args.seed, args.images)))
        print(f"\nin {time.perf_counter() - began:.1f} s: {args.out / 'mix.json'}")
        if args.tokenizer:
            print(f"tokenizer: {train_tokenizer(args.tokenizer, args.out / 'mix.json')}")
    except MoSLoRAError as fault:
        print(f"error: {fault}", file=sys.stderr)
        raise SystemExit(fault.exit_code) from None


if __name__ == "__main__":
    main()
