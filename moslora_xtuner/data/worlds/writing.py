"""Small worlds on disk, as the commonsense data stands there: training records and one table a test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...hashing import sha256
from ...output import atomic_folder, claim, marker
from ..commonsense.writing import TABLES as TABLES
from ..commonsense.writing import record, write_tables
from . import PREFIX
from .forms import FORMS, samples

KIND = "small worlds"


def write_worlds(
    out: Path, *, seed: int = 0, records: int = 8000, test_questions: int = 200, test_seed: int = 0
) -> Path:
    """Write `train.json` and `LMUData/SmallWorlds_SET.tsv`; the same arguments give the same bytes.

    No world of a test is one of training: worlds are dealt out by a hash of their facts. The folder appears whole or
    not at all; one that is there already with the same arguments is left as it is.

    Args:
        out: the folder to make.
        seed: of the training questions.
        records: training questions, of the eight sets in turn.
        test_questions: of each test set.
        test_seed: of the tests; runs that are to be compared keep it.

    Raises:
        OutputError: the folder exists with other content, or cannot be written.
    """
    settings: dict[str, Any] = {
        "seed": seed, "records": records, "test_questions": test_questions, "test_seed": test_seed,
    }  # fmt: skip
    if marker(out) is not None:
        claim(out, KIND, settings)
        return out
    with atomic_folder(out, KIND) as folder:
        claim(folder, KIND, settings)
        lines = [record(f"worlds-{place}", made) for place, made in enumerate(samples(records, seed, test=False))]
        (folder / "train.json").write_text(f"{json.dumps(lines, indent=0)}\n", encoding="utf-8")
        tests = {f"{PREFIX}{name}": list(samples(test_questions, test_seed, test=True, only=name)) for name in FORMS}
        write_tables(folder / TABLES, tables=tests)
        files = [folder / "train.json", *sorted((folder / TABLES).iterdir())]
        facts = {**settings, "sha256": {str(path.relative_to(folder)): sha256(path) for path in files}}
        (folder / "manifest.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return out
