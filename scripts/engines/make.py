"""Make the models, their exports, the questions, and the answers of what was trained.

python scripts/engines/make.py FOLDER [--questions N] [FAMILY-KIND ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1]
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))

from engines import pictures, trained  # noqa: E402

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "nf4": "float32"}


def make(root: Path, wanted: list[str], count: int) -> None:
    """Write `questions/`, `jobs.json`, `truth.json` and the exports."""
    from moslora_xtuner.data.digits.write import write_digits
    from moslora_xtuner.export.merge import export

    with tempfile.TemporaryDirectory() as data:
        table = write_digits(Path(data) / "digits", scenes=8, test_questions=count) / "LMUData"
        pictures.write(table / "DigitsTextVQA.tsv", root / "questions", count)
    bases = trained.make_bases(root / "bases")
    jobs, truth = [], {}
    for family in trained.FAMILIES:
        for kind in trained.KINDS:
            name = f"{family}-{kind}"
            if wanted and name not in wanted:
                continue
            run = root / "runs" / name
            model = trained.train(bases[family], family, kind, run)
            answers, logits = trained.answers(model, bases[family], root / "questions")
            truth[name] = {"answers": answers, "logits": logits.tolist()}
            for form in ("hf", "lora"):
                told: list[str] = []
                out = export(run, root / "exports" / f"{name}-{form}", format=form, tell=told.append)
                job = {"name": f"{name}-{form}", "dtype": DTYPES[kind], "new_tokens": trained.NEW_TOKENS}
                beside = {"model": str(out / "base"), "adapter": str(out / "adapter"), "rank": trained.RANK}
                jobs.append({**job, **({"model": str(out)} if form == "hf" else beside)})
                print(f"{name}-{form}: {told[0]}", flush=True)
    (root / "jobs.json").write_text(json.dumps(jobs, indent=1), encoding="utf-8")
    (root / "truth.json").write_text(json.dumps(truth), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Models, exports, questions, and the trained models' answers")
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", metavar="FAMILY-KIND")
    parser.add_argument("--questions", type=int, default=pictures.COUNT, metavar="N")
    given = parser.parse_intermixed_args()
    make(given.folder, given.models, given.questions)
