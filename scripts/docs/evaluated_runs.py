"""Run folders of models that do not exist: made-up answers to the stand-ins of the nine benchmarks, really scored."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

from moslora_xtuner.atomic import atomic_lines
from moslora_xtuner.eval.judges.base import AnyJudge, Ask, Reply, VerdictLog
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.results.manifest import DatasetRecord, Made, Manifest
from moslora_xtuner.eval.scoring.samples import answer_records
from moslora_xtuner.eval.scoring.score import Place, score
from moslora_xtuner.eval.tasks import tables as task_tables
from moslora_xtuner.eval.tasks.checksums import check
from moslora_xtuner.eval.tasks.questions import Task, ask_all
from moslora_xtuner.eval.tasks.registry import EXACT, resolve

JUDGE = "a made-up judge"
MADE = Made(judge=JUDGE, decoding="made up")
UNREADABLE = 0.02
"""The part of answers that name no option."""


class MadeUpJudge(AnyJudge):
    """Grades MM-Vet by the mark at an answer's end; extracts nothing from what MathVista cannot read itself."""

    identity, address = "made up", "the made-up judge"

    def _ask(self, text: str, ask: Ask) -> Reply:
        mark = re.search(r"\[(right|wrong)\] \|\s*$", text)
        return Reply("" if mark is None else {"right": "1.0", "wrong": "0.0"}[mark[1]])


def make_run(
    folder: Path,
    tables: Path,
    key: dict[str, Any],
    model: str,
    share: float,
    facts: dict[str, Any] | None = None,
    made: Made = MADE,
) -> Path:
    """Write what `moslora eval` would of a model that is right in `share` of the questions; returns `folder`.

    Which ones is drawn by the question, so that a model with a larger share is right where another one is, mostly.

    Args:
        folder: of the run.
        tables: made by make_benchmarks_like.py.
        key: its key.json.
        model: the name in reports.
        share: 0 to 1.
        facts: of the model, for its manifest.
        made: with what it was asked, as the manifest says it.
    """
    log, judge = folder / "vlmevalkit.log", MadeUpJudge(VerdictLog(folder / "verdicts.jsonl"), workers=4)
    entries: dict[str, Any] = {}
    records: dict[str, DatasetRecord] = {}
    for benchmark in resolve(["paper"]):
        name = benchmark.dataset
        dataset = task_tables.build_dataset(benchmark, tables, log)
        asked = ask_all(benchmark, dataset, tables, None)
        task = Task(benchmark, dataset, asked)
        answers = [
            _answer(name, str(item.index), item.unit, key[name][str(item.index)], model, share) for item in asked
        ]
        judged = benchmark.needs_judge
        place = Place(folder / "vlmeval" / name, "model", tables, log)
        result = score(task, answers, place, judge=JUDGE if judged else EXACT, verdicts=judge if judged else None)
        entries[name] = result.entry
        atomic_lines(folder / "outcomes" / f"{name}.jsonl", result.outcomes)
        rows = answer_records(task, answers, result.hits)
        atomic_lines(folder / "answers" / f"{name}.jsonl", rows)
        tsv = tables / f"{name}.tsv"
        digest = check(tables, name, None).sha256
        seconds = {"inference": float(len(asked))}
        records[name] = DatasetRecord(sha256=digest, tsv=str(tsv), asked=len(asked), seconds=seconds, made=made)
    judge.close()
    manifest = Manifest(facts=facts or {}, made=made, datasets=records)
    scores.write(folder, model, entries, manifest)
    return folder


def _answer(dataset: str, index: str, unit: str, key: dict[str, Any], model: str, share: float) -> str:
    ease, luck = (random.Random(f"{dataset} {text}").random() for text in (unit, f"{index} {model}"))
    right = 0.6 * ease + 0.4 * luck < share
    if dataset == "MMVet":
        return f"{key['right' if right else 'wrong']} [{'right' if right else 'wrong'}]"
    if luck > 1 - UNREADABLE and dataset != "MathVista_MINI":
        return "hm"
    return str(key["right" if right else "wrong"])
