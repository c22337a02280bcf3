"""Score the same answers with two releases of VLMEvalKit: DigitsVQA's tables and stand-ins of the paper's benchmarks.

    python scripts/compare_vlmevalkits.py KIT [MORE...]

KIT is a folder with another VLMEvalKit (a checkout), MORE are folders with packages that it wants and that are not
installed (rouge_score, for its main of August 2026). Each release scores in a process of its own, through this
project's code, with the same made-up answers: right ones, wrong ones, and some that nobody can read; `verbose` has them
as sentences, which main reads and ms-vlmeval 0.0.20 does not (utils/matching_util.py: can_infer_option). The exit
status is 1 where a score of plain answers differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from ast import literal_eval
from hashlib import sha256
from pathlib import Path
from typing import Any

from make_benchmarks_like import make_benchmarks

from moslora_xtuner.data.digits.write import write_digits
from moslora_xtuner.eval.judges.base import AnyJudge, Ask, Reply, VerdictLog
from moslora_xtuner.eval.scoring.score import Place, score
from moslora_xtuner.eval.tasks import tables
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, EXACT, GROUPS

FORMS = {"plain": "{}", "verbose": "The correct answer is **{}**. Here is why: it can be seen in the picture."}
"""How an answer is put into words."""


class HalfJudge(AnyJudge):
    """Grades every answer with a half, and extracts nothing: what is compared is the kit, not a judge."""

    identity = address = "m"

    def _ask(self, text: str, ask: Ask) -> Reply:
        return Reply("0.5" if "Correctness" in text else "none")


def answers(rows: list[dict[str, Any]], key: dict[str, Any] | None, form: str) -> list[str]:
    """Two of three right, as the key or the table has it; one of nine is no answer."""
    found = []
    for row in rows:
        place = int(sha256(str(row["index"]).encode()).hexdigest(), 16) % 9
        said = _right(row, key) if place < 6 else "nobody knows" if place == 8 else _wrong(row, key)
        found.append(form.format(said))
    return found


def _right(row: dict[str, Any], key: dict[str, Any] | None) -> str:
    if key is not None:
        return str(key[str(row["index"])]["right"])
    answer = str(row["answer"])
    return str(literal_eval(answer)[0]) if answer.startswith("[") else answer


def _wrong(row: dict[str, Any], key: dict[str, Any] | None) -> str:
    if key is not None:
        return str(key[str(row["index"])]["wrong"])
    return {"Yes": "No", "No": "Yes", "A": "B"}.get(str(row["answer"]), "A")


def score_all(root: Path, work: Path, names: tuple[str, ...]) -> dict[str, float | str]:
    """The overall score of each table and form of answers, with the VLMEvalKit that this process imports."""
    file = root / "key.json"
    keys = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found: dict[str, float | str] = {}
    for name in names:
        benchmark = BENCHMARKS[name]
        dataset = tables.build_dataset(benchmark, root, work / "log")
        asked = ask_all(benchmark, dataset, root, None)
        rows = dataset.data.to_dict("records")
        judge = HalfJudge(VerdictLog(work / f"{name}.jsonl"), workers=2) if benchmark.needs_judge else None
        for word, form in FORMS.items():
            place = Place(work / f"{name}-{word}", "m", root, work / "log")
            task, said = Task(benchmark, dataset, asked), answers(rows, keys.get(name), form)
            try:
                entry = score(task, said, place, judge=EXACT if judge is None else "m", verdicts=judge).entry
                found[f"{name} {word}"] = round(float(entry["overall"]), 6)
            except Exception as fault:  # one table's failure is what is looked for
                found[f"{name} {word}"] = f"{type(fault).__name__}: {fault}"[:200]
    return found


def compare(kit: Path, more: list[Path], questions: int = 24) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scores by the installed release and by another, of the same answers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_benchmarks(folder / "like", questions)
        write_digits(folder / "digits", seed=0, scenes=1, test_questions=questions)
        here = os.environ.get("PYTHONPATH", "")
        both = [_scored(folder, here), _scored(folder, os.pathsep.join(filter(None, [*map(str, [kit, *more]), here])))]
    return both[0], both[1]


def _scored(folder: Path, path: str) -> dict[str, Any]:
    words = [sys.executable, str(Path(__file__).resolve()), "--score", str(folder)]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Compare, or score one release (what the comparison starts)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path, nargs="?", help="a folder with another VLMEvalKit")
    parser.add_argument("more", type=Path, nargs="*", help="folders with packages that it wants")
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.score:
        with tempfile.TemporaryDirectory() as work:
            found = score_all(args.score / "like", Path(work), GROUPS["paper"])
            found |= score_all(args.score / "digits" / "LMUData", Path(work), GROUPS["digits"])
        print(json.dumps(found))
        return
    if args.kit is None or not (args.kit / "vlmeval").is_dir():
        parser.error("name a folder that holds vlmeval/")
    installed, other = compare(args.kit.resolve(), [path.resolve() for path in args.more])
    print(f"{'table and answers':<28}{'installed':>12}{'other':>12}")
    for name, value in installed.items():
        same = "" if value == other[name] else "  differs"
        print(f"{name:<28}{value:>12}{other[name]:>12}{same}")
    plain = {name: value for name, value in installed.items() if name.endswith(" plain")}
    raise SystemExit(any(value != other[name] for name, value in plain.items()))


if __name__ == "__main__":
    main()
