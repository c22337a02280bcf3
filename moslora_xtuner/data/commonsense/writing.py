"""What training and evaluation read: records of one turn, a validation part, and one table a test set."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ...hashing import sha256
from ...output import atomic_folder, claim, marker
from ..instructions import as_word
from .reading import Sample, Source, find, read_test, read_training, require_published
from .sets import SETS, TRAINING

KIND = "commonsense data"
VALIDATION, SPLIT_SEED = 120, 42
"""The authors' (val_set_size, seed of the split)."""
TABLES = "LMUData"


def write_commonsense(
    folder: Path,
    out: Path,
    *,
    validation: int = VALIDATION,
    seed: int = SPLIT_SEED,
    tests_only: bool = False,
    changed: bool = False,
) -> dict[str, Any]:
    """Read LLM-Adapters' files and write `train.json`, `validation.json`, `LMUData/SET.tsv`; returns the manifest.

    The folder appears whole or not at all; one that was made of the same files alike is left as it is.

    Args:
        folder: LLM-Adapters' tree, or the files of it that are read.
        out: the folder to make.
        validation: records that are kept from training.
        seed: of that split, which is that of `datasets`' train_test_split as the authors call it.
        tests_only: leave the training questions out.
        changed: take files that are not the published ones.

    Raises:
        DataError: a file is missing, broken or another one than was published.
        UsageError: no record would be left for training.
        OutputError: `out` holds something else, or cannot be written.
    """
    paths = find(folder, [which.path for which in SETS] + ([] if tests_only else [TRAINING]))
    tests = [read_test(paths[which.path], which) for which in SETS]
    training = None if tests_only else read_training(paths[TRAINING])
    sources = [*tests, *([] if training is None else [training])]
    if not changed:
        require_published(sources)
    settings: dict[str, Any] = {
        "files": {source.name: {"blob": source.blob, "published": source.published} for source in sources},
        "validation": None if training is None else validation,
        "seed": None if training is None else seed,
    }
    if marker(out) is not None:
        claim(out, KIND, settings)
        found: dict[str, Any] = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        return found
    with atomic_folder(out, KIND) as made:
        claim(made, KIND, settings)
        counts = {} if training is None else write_training(made, training.samples, validation, seed)
        tables = {which.name: test.samples for which, test in zip(SETS, tests, strict=True)}
        write_tables(made / TABLES, tables)
        return _manifest(made, {**settings, "records": counts, "questions": _counts(tests)})


def _counts(tests: Sequence[Source]) -> dict[str, int]:
    return {which.name: len(test.samples) for which, test in zip(SETS, tests, strict=True)}


def _manifest(made: Path, facts: dict[str, Any]) -> dict[str, Any]:
    files = sorted(path for path in made.rglob("*") if path.suffix in (".json", ".tsv"))
    manifest = {**facts, "sha256": {str(path.relative_to(made)): sha256(path) for path in files}}
    (made / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def split(count: int, validation: int, seed: int) -> tuple[list[int], list[int]]:
    """Places for training and for validation, as `datasets.Dataset.train_test_split` draws them.

    Raises:
        UsageError: no record would be left for training.
    """
    if not 0 <= validation < count:
        raise UsageError(f"{validation} records for validation of {count}: fewer, so that some are left to learn from")
    order: list[int] = np.random.default_rng(seed).permutation(count).tolist()
    return order[validation:], order[:validation]


def write_training(folder: Path, samples: Sequence[Sample], validation: int, seed: int) -> dict[str, int]:
    """Write `train.json` and `validation.json` in LLaVA's form, text alone; returns how many records they hold."""
    parts = dict(zip(("train", "validation"), split(len(samples), validation, seed), strict=True))
    for name, places in parts.items():
        records = [record(f"commonsense-{place}", samples[place]) for place in places]
        text = json.dumps(records, ensure_ascii=False, indent=0)
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    return {name: len(places) for name, places in parts.items()}


def record(name: str, sample: Sample) -> dict[str, Any]:
    """A question and its answer as a conversation of one turn."""
    turns = (("human", as_word(sample.instruction)), ("gpt", sample.output))
    return {"id": name, "conversations": [{"from": who, "value": text} for who, text in turns]}


def write_tables(folder: Path, tables: Mapping[str, Sequence[Sample]]) -> None:
    """Write NAME.tsv of each set: index, question (the instruction) and answer (the label)."""
    folder.mkdir()
    for name, samples in tables.items():
        with (folder / f"{name}.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerow(("index", "question", "answer"))
            writer.writerows((place, sample.instruction, sample.answer) for place, sample in enumerate(samples))
