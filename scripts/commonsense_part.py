"""A part of the training questions, drawn by a seed: each smaller part of a seed lies within each larger one.

    python scripts/commonsense_part.py data/commonsense/train.json --per-cent 12.5 --seed 42 -o parts/12.5

writes part-12.5-seed-42.json, its records in the order of the whole file, and manifest.json. The same arguments give
the same bytes; a folder that was made so is left as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from moslora_xtuner.errors import DataError, MoSLoRAError, UsageError
from moslora_xtuner.hashing import sha256
from moslora_xtuner.output import atomic_folder, claim, marker

KIND = "part of the commonsense questions"


def places(count: int, per_cent: float, seed: int) -> list[int]:
    """Which of `count` records are in the part: the first of an order that the seed alone draws, rising.

    Raises:
        UsageError: it is no share, or holds no record.
    """
    if not 0 < per_cent <= 100:
        raise UsageError(f"--per-cent {per_cent:g}: give a number above 0 and at most 100")
    wanted = round(count * per_cent / 100)
    if not wanted:
        raise UsageError(f"{per_cent:g} % of {count} records is none: give more")
    return sorted(np.random.default_rng(seed).permutation(count)[:wanted].tolist())


def write_part(source: Path, out: Path, per_cent: float, seed: int) -> Path:
    """Write the part's file into a folder that appears whole or not at all; returns the file.

    Raises:
        DataError: the source is not there, or no list of records.
        OutputError: the folder holds something else, or a part of other records.
        UsageError: no record would be in it.
    """
    try:
        records = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DataError(f"{source} cannot be read ({fault}): make it with `moslora data commonsense`") from fault
    if not isinstance(records, list):
        raise DataError(f"{source} is no list of records: give the train.json of `moslora data commonsense`")
    settings = {"sha256": sha256(source), "per_cent": per_cent, "seed": seed}
    file = f"part-{per_cent:g}-seed-{seed}.json"
    if marker(out) is not None and claim(out, KIND, settings):
        return out / file
    chosen = places(len(records), per_cent, seed)
    with atomic_folder(out, KIND) as folder:
        claim(folder, KIND, settings)
        text = json.dumps([records[place] for place in chosen], ensure_ascii=False, indent=0)
        (folder / file).write_text(f"{text}\n", encoding="utf-8")
        facts = {**settings, "source": source.name, "of": len(records), "records": len(chosen)}
        (folder / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return out / file


def main() -> None:
    """Parse the command line, write the part, say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--per-cent", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        file = write_part(args.source, args.out, args.per_cent, args.seed)
    except MoSLoRAError as fault:
        raise SystemExit(f"error: {fault}") from None
    found = json.loads((args.out / "manifest.json").read_text(encoding="utf-8"))
    print(f"{file}: {found['records']:,} of {found['of']:,} records, drawn by seed {args.seed}")


if __name__ == "__main__":
    main()
