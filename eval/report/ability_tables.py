"""The abilities behind a score: the six of MMBench, its fine ones, MME's subtasks, whatever else a benchmark sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..results import scores
from ..results.scores import Run
from ..tasks.registry import ABILITIES, ABILITY_TITLES, BENCHMARKS, MME_COGNITION, MME_PERCEPTION
from .formats import Grid

MEANINGS = "; ".join(f"{name} {meaning}" for name, meaning in ABILITY_TITLES.items())
RULES = (
    "Circular: right in every rotation of the options; vanilla: right in the first order; chance: what uniform "
    "guessing scores under the same rule."
)
SUMS = ("perception", "cognition", "overall")


def datasets_of(runs: Sequence[Run]) -> list[str]:
    """Every benchmark that a run holds, in the order of the first that does."""
    return list(dict.fromkeys(name for run in runs for name in run.benchmarks))


def six(runs: Sequence[Run], dataset: str) -> Grid | None:
    """The six abilities: circular, vanilla and chance of every run that has all six, in per cent."""
    have = [run for run in runs if set(ABILITIES) <= set(_abilities(run, dataset))]
    if not have:
        return None
    rule = "circular" if dataset in BENCHMARKS and BENCHMARKS[dataset].circular else "accuracy"
    parts = [(run.model, run.benchmarks[dataset]) for run in have]
    if chance := have[0].benchmarks[dataset].get("chance"):
        parts.append(("chance", chance))
    rows = []
    for name, entry in parts:
        rows.append([name, rule, *_six(entry)])
        if entry.get("vanilla"):
            rows.append([name, "vanilla", *_six(entry["vanilla"])])
    title = f"{scores.label(dataset)}: the six abilities, per cent"
    return Grid(["model", "rule", *ABILITIES, "all"], rows, title, [f"{MEANINGS}. {RULES}"])


def _six(entry: Mapping[str, Any]) -> list[str]:
    abilities = entry.get("abilities", {})
    cells = [f"{abilities[name]:.1f}" if name in abilities else "–" for name in ABILITIES]
    return [*cells, f"{entry['overall']:.1f}"]


def fine(runs: Sequence[Run], dataset: str) -> Grid | None:
    """The fine abilities (20 in MMBench) of every run that has any, in per cent."""
    have = {run.model: found for run in runs if (found := _categories(run, dataset))}
    title = f"{scores.label(dataset)}: fine abilities ({len(_names(have))}), per cent"
    return _by_ability(have, title) if have else None


def subtasks(runs: Sequence[Run], dataset: str) -> Grid | None:
    """An MME-like benchmark: points (of 200) in each subtask, then perception, cognition and all."""
    have = [run for run in runs if "perception" in run.benchmarks.get(dataset, {})]
    if not have:
        return None
    scale = have[0].benchmarks[dataset]["scale"]
    values = {run.model: _abilities(run, dataset) for run in have}
    known = [name for name in (*MME_PERCEPTION, *MME_COGNITION) if name in _names(values)]
    names = [*known, *(name for name in _names(values) if name not in known)]
    title = f"{scores.label(dataset)}: {len(names)} subtasks, points, 200 a subtask, {scale:.0f} in all"
    sums = {run.model: {name: run.benchmarks[dataset].get(name) for name in SUMS} for run in have}
    rows = [[name, *(_text(found.get(name)) for found in values.values())] for name in names]
    rows += [[name, *(_text(found[name]) for found in sums.values())] for name in SUMS]
    return Grid(["subtask", *values], rows, title)


def others(runs: Sequence[Run], dataset: str) -> Grid | None:
    """The abilities of a benchmark that are neither the six nor subtasks in points."""
    have = {
        run.model: found
        for run in runs
        if (found := _abilities(run, dataset))
        and not set(ABILITIES) <= set(found)
        and "perception" not in run.benchmarks[dataset]
    }
    return _by_ability(have, f"{scores.label(dataset)}: by ability, per cent") if have else None


def grids(runs: Sequence[Run]) -> list[Grid]:
    """Every table of abilities that the runs hold, benchmark by benchmark."""
    made = (part(runs, name) for name in datasets_of(runs) for part in (six, fine, subtasks, others))
    return [grid for grid in made if grid is not None]


def long_grid(runs: Sequence[Run]) -> Grid:
    """The same as one row a number, for programs: model, dataset, kind (ability, vanilla, fine), ability, score."""
    rows = [
        [run.model, dataset, kind, name, f"{value:.2f}"]
        for run in runs
        for dataset in run.benchmarks
        for kind, found in _kinds(run, dataset)
        for name, value in found.items()
    ]
    return Grid(["model", "dataset", "kind", "ability", "score"], rows)


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Dataset, then model, then kind (ability, vanilla, fine), then name to score."""
    return {
        dataset: {run.model: dict(_kinds(run, dataset)) for run in runs if dataset in run.benchmarks}
        for dataset in datasets_of(runs)
    }


def _kinds(run: Run, dataset: str) -> Iterator[tuple[str, dict[str, float]]]:
    entry = run.benchmarks[dataset]
    vanilla = entry.get("vanilla")
    parts = {
        "ability": _abilities(run, dataset),
        "vanilla": vanilla.get("abilities", {}) if isinstance(vanilla, dict) else {},
        "fine": _categories(run, dataset),
    }
    yield from ((kind, found) for kind, found in parts.items() if found)


def _by_ability(values: Mapping[str, Mapping[str, float]], title: str) -> Grid:
    names = _names(values)
    rows = [[name, *(_text(found.get(name)) for found in values.values())] for name in names]
    return Grid(["ability", *values], rows, title)


def _names(values: Mapping[str, Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for found in values.values() for name in found))


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _abilities(run: Run, dataset: str) -> dict[str, float]:
    return run.benchmarks.get(dataset, {}).get("abilities") or {}


def _categories(run: Run, dataset: str) -> dict[str, float]:
    """The fine abilities of an entry; scores.check does not know them, so what is no number is left out."""
    found = run.benchmarks.get(dataset, {}).get("categories")
    if not isinstance(found, dict):
        return {}
    return {str(name): float(value) for name, value in found.items() if isinstance(value, int | float)}
