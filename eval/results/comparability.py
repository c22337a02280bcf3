"""Whether runs can be compared: hard reasons against it, remarks beside it, and when a mean may stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..tasks.registry import BENCHMARKS, EXACT
from . import scores
from .scores import Mean, Run

NO_JUDGE = "exact matching, no judge"
DECIDING_PACKAGES = ("ms-vlmeval", "vlmeval", "transformers", "torch")
"""The packages whose version can change an answer or its score."""


def unscored(run: Run, dataset: str) -> str | None:
    """Why a run was asked a benchmark and has no score of it, or None."""
    return run.manifest.unscored.get(dataset)


def mean(run: Run, datasets: Sequence[str]) -> Mean:
    """The mean over a named set, only where each of it is there, scored, and asked in the same way."""
    lacking = {name: reason for name in datasets if (reason := unscored(run, name)) is not None}
    by_reason: dict[str, list[str]] = {}
    for name, reason in lacking.items():  # in short: the notes beneath a table say all of it
        by_reason.setdefault(reason.partition(": ")[0], []).append(scores.label(name))
    faults = [f"{', '.join(labels)}: {reason}" for reason, labels in by_reason.items()]
    missing = [scores.label(name) for name in datasets if name not in run.benchmarks and name not in lacking]
    if missing:
        faults.insert(0, f"missing {', '.join(missing)}")
    if faults:
        return Mean(None, "; ".join(faults))
    limits = {run.benchmarks[name].get("limit") for name in datasets}
    if len(limits) > 1 and None not in limits:
        return Mean(None, f"limits differ: {_listed(limits)}")
    return scores.mean(run, datasets)


def reasons(runs: Sequence[Run], dataset: str) -> list[str]:
    """Why the scores of these runs on one benchmark must not be compared; an empty list where they may.

    What a run does not record (of data and prompts) is no reason against it.
    """
    have = [run for run in runs if dataset in run.benchmarks]
    found = []
    if len(_recorded(have, dataset, "sha256")) > 1:
        found.append("the runs saw other versions of the data")
    judges = {_judge(run, dataset) for run in have}
    if len(judges) > 1:
        found.append(f"other judges ({' and '.join(sorted(judges))})")
    if len({tuple(run.benchmarks[dataset].get("kit_fixes") or ()) for run in have}) > 1:
        found.append("VLMEvalKit's defects were corrected in some alone (--kit-fixes)")
    limits = {run.benchmarks[dataset].get("limit") for run in have}
    rows = {tuple((run.benchmarks[dataset].get("left_out") or {}).get("indices", ())) for run in have}
    if len(limits) > 1:
        found.append(f"other limits ({_listed(limits)})")
    if len(rows) > 1:
        found.append("other rows of the table were left out")
    # Of other rows the prompts differ anyway.
    if len(limits) == len(rows) == 1 and len(_recorded(have, dataset, "prompts_sha256")) > 1:
        found.append("the runs saw other prompts")
    return found


def remarks(runs: Sequence[Run], datasets: Sequence[str]) -> list[str]:
    """What differs between the runs' answers to these benchmarks and may have moved a score, itself the same test."""
    made = {run.model: [run.manifest.made_of(name) for name in datasets if name in run.benchmarks] for run in runs}
    found = []
    for package in DECIDING_PACKAGES:
        by_run = {model: {item.versions.get(package) for item in items} for model, items in made.items()}
        found += _differing(f"the version of {package}", by_run)
    for fact in ("precision", "decoding", "batch_size"):
        by_run = {model: {getattr(item, fact) for item in items} for model, items in made.items()}
        found += _differing(fact.replace("_", " "), by_run)
    return found


def notes(runs: Sequence[Run], datasets: Sequence[str]) -> tuple[str, ...]:
    """What a reader must know to trust a table: judges, limits, what has no score, what cannot be compared."""
    found = _judges(runs, datasets)
    for name in datasets:
        title = scores.label(name)
        limits = {run.benchmarks[name].get("limit") for run in runs if name in run.benchmarks}
        if limits - {None}:
            found.append(f"{title}: only a part was asked (limit {_listed(limits)}).")
        if against := reasons(runs, name):
            found.append(f"{title}: the runs cannot be compared: {'; '.join(against)}.")
        lacking = {run.benchmarks[name].get("unanswerable") for run in runs if name in run.benchmarks} - {None, 0}
        if lacking:
            found.append(f"{title}: {_listed(lacking)} questions to which no answer can be right count as wrong.")
        found += _of_the_tables(runs, name, title)
        for run in runs:
            if (reason := unscored(run, name)) is not None:
                found.append(f"{run.model}, {title}: not scored: {reason.rstrip('.')}.")
            if refused := run.benchmarks.get(name, {}).get("unanswered"):
                found.append(
                    f"{run.model}, {title}: {len(refused)} questions got no answer, counted as wrong{_named(refused)}."
                )
    return (*found, *_departures(runs, datasets), *_unread(runs, datasets), *remarks(runs, datasets))


def _of_the_tables(runs: Sequence[Run], dataset: str, title: str) -> list[str]:
    """Rows that were not asked, defects of VLMEvalKit that were corrected, and what else is said of the table."""
    found: dict[str, list[str]] = {}
    have = [run for run in runs if dataset in run.benchmarks]
    for run in have:
        entry = run.benchmarks[dataset]
        if left_out := entry.get("left_out"):
            because = "; ".join(left_out["because"])
            found.setdefault(f"{left_out['rows']} rows of the table were not asked ({because})", []).append(run.model)
        if fixes := entry.get("kit_fixes"):
            found.setdefault(f"corrected (--kit-fixes): {'; '.join(fixes)}", []).append(run.model)
        notes = entry.get("notes") or ()
        for line in [notes] if isinstance(notes, str) else notes:
            found.setdefault(str(line).rstrip("."), []).append(run.model)
    return [
        f"{title}: {what}." if len(models) == len(have) else f"{', '.join(models)}, {title}: {what}."
        for what, models in found.items()
    ]


UNREAD = "Answers that name no option, neither yes nor no, or nothing at all; VLMEvalKit's rule decides their score"
NO_LABEL = "Answers without a label of their set, wrong as in the authors' program"
LEFT_TO_JUDGE = "Answers that name no option, left to the judge where VLMEvalKit reads none either"
VERDICTS = "Verdicts of the judge that cannot be read, counted as wrong"
_MODELS = 3
"""So many models are told one by one."""


def _unread(runs: Sequence[Run], datasets: Sequence[str]) -> list[str]:
    """How many answers and verdicts could not be read, by what was made of them."""
    by_kind: dict[str, list[str]] = {}
    for name in datasets:
        counts: dict[str, dict[str, tuple[int, str]]] = {}
        for run in runs:
            entry = run.benchmarks.get(name, {})
            unread, judged = entry.get("parse_failures") or 0, _judge(run, name) != NO_JUDGE if entry else False
            if "judge_failures" in entry:  # multiple choice: the judge is asked where the rules find no option
                kind, verdicts = LEFT_TO_JUDGE if judged else UNREAD, entry["judge_failures"]
            elif "beyond_options" in entry:  # sets of labels have no judge
                kind, verdicts = NO_LABEL, 0
            else:  # MME counts what is unknown in the end; of open answers the judge's verdicts are read
                kind, verdicts = VERDICTS if judged and "perception" not in entry else UNREAD, 0
            named = entry.get("unread_verdicts") or {}
            if named:  # what was left to a judge that could not be read stands here by its question
                verdicts, unread = len(named), 0 if kind == VERDICTS else unread
            for what, count in ((kind, unread), (VERDICTS, verdicts)):
                if count:
                    which = _named(named) if what == VERDICTS else ""
                    counts.setdefault(what, {})[run.model] = (count, which)
        for what, found in counts.items():
            by_kind.setdefault(what, []).append(f"{scores.label(name)} ({_few(found, len(runs))})")
    return [f"{what}: {'; '.join(labels)}." for what, labels in by_kind.items()]


def _named(questions: Mapping[str, Any], most: int = 5) -> str:
    """The first few of these questions, by index."""
    if not questions:
        return ""
    first = sorted(map(str, questions), key=lambda name: (len(name), name))[:most]
    return f": {', '.join(first)}{', ...' if len(questions) > most else ''}"


def _departures(runs: Sequence[Run], datasets: Sequence[str]) -> list[str]:
    """In what a judge was asked otherwise than VLMEvalKit asks it: each once, with the benchmarks."""
    found: dict[str, dict[str, None]] = {}
    for name in datasets:
        for run in runs:
            for departure in run.benchmarks.get(name, {}).get("judge_departures") or ():
                found.setdefault(str(departure), {})[scores.label(name)] = None
    return [f"{', '.join(labels)}: {departure}." for departure, labels in found.items()]


def _few(counts: Mapping[str, tuple[int, str]], runs: int) -> str:
    """Each model's count and which they are; of more than a few models how far the counts reach."""
    if runs <= _MODELS:
        return ", ".join(f"{model} {count}{which}" for model, (count, which) in counts.items())
    numbers = [count for count, _ in counts.values()]
    low, high = min(numbers) if len(counts) == runs else 0, max(numbers)
    return f"{high} a model" if low == high else f"{low} to {high} a model"


def _judges(runs: Sequence[Run], datasets: Sequence[str]) -> list[str]:
    """Who decided what is right, by judge; silent about exact matching where it is the benchmark's own rule."""
    by_judge: dict[str, list[str]] = {}
    for name in datasets:
        none_needed = name in BENCHMARKS and BENCHMARKS[name].judge is None
        for judge in dict.fromkeys(run.benchmarks[name].get("judge") for run in runs if name in run.benchmarks):
            if judge is not None and not (judge == EXACT and none_needed):
                by_judge.setdefault(str(judge), []).append(scores.label(name))
    return [
        f"{', '.join(labels)}: {NO_JUDGE if judge == EXACT else f'judged by {judge}'}."
        for judge, labels in by_judge.items()
    ]


def _judge(run: Run, dataset: str) -> str:
    judge = run.benchmarks[dataset].get("judge")
    return NO_JUDGE if judge in (None, EXACT) else str(judge)


def _recorded(runs: Sequence[Run], dataset: str, field: str) -> set[str]:
    """The values of a fact of a benchmark in the runs' manifests, without the runs that do not say."""
    found = set()
    for run in runs:
        value = getattr(run.manifest.datasets.get(dataset), field, None)
        if value is not None:
            found.add(str(value))
    return found


def _differing(title: str, by_run: dict[str, set[Any]]) -> list[str]:
    by_value: dict[str, list[str]] = {}
    for model, values in by_run.items():
        for value in sorted(map(str, values - {None})):
            by_value.setdefault(value, []).append(model)
    if len(by_value) < 2:
        return []
    said = (f"{value} in {' and '.join(models)}" for value, models in by_value.items())
    return [f"The runs differ in {title}: {'; '.join(said)}."]


def _listed(values: set[Any]) -> str:
    return ", ".join(sorted("all" if value is None else str(value) for value in values))
