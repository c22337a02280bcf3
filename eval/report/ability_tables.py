"""The abilities behind a score: the six of MMBench, its fine ones, MME's subtasks, whatever else a benchmark sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..results import comparability, scores
from ..results.scores import Run
from ..tasks.registry import ABILITIES, ABILITY_TITLES, BENCHMARKS, MME_COGNITION, MME_PERCEPTION
from .best import best_of
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
    rows: list[tuple[str, str, list[float | None]]] = []
    for name, entry in parts:
        rows.append((name, rule, _six(entry)))
        if entry.get("vanilla"):
            rows.append((name, "vanilla", _six(entry["vanilla"])))
    of_models = rows[: -(1 + bool(chance.get("vanilla")))] if chance else rows
    bold = {
        (places[row], column + 2)
        for name in (rule, "vanilla")
        if (places := [place for place, item in enumerate(of_models) if item[1] == name])
        for column in range(len(ABILITIES) + 1)
        for row in _best(have, dataset, [of_models[place][2][column] for place in places])
    }
    title = f"{scores.label(dataset)}: the six abilities, per cent"
    cells = [[name, said, *map(_text, values)] for name, said, values in rows]
    header = ["model", "rule", *ABILITIES, "all"]
    return Grid(header, cells, title, [f"{MEANINGS}. {RULES}"], frozenset(bold))


def _six(entry: Mapping[str, Any]) -> list[float | None]:
    abilities = entry.get("abilities", {})
    return [*(abilities.get(name) for name in ABILITIES), entry["overall"]]


def _best(runs: Sequence[Run], dataset: str, values: Sequence[float | None]) -> frozenset[int]:
    """The places of the best; none where the runs cannot be compared."""
    return frozenset() if comparability.reasons(runs, dataset) else best_of(values)


def fine(runs: Sequence[Run], dataset: str) -> Grid | None:
    """The fine abilities (20 in MMBench) of every run that has any, in per cent."""
    have = {run.model: found for run in runs if (found := _categories(run, dataset))}
    title = f"{scores.label(dataset)}: fine abilities ({len(_names(have))}), per cent"
    return _by_ability(have, title, runs, dataset) if have else None


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
    with_sums = {
        run.model: {**values[run.model], **{name: run.benchmarks[dataset].get(name) for name in SUMS}} for run in have
    }
    return _grid("subtask", [*names, *SUMS], with_sums, title, runs, dataset, _guessed(have[0], dataset, names))


def _guessed(run: Run, dataset: str, names: Sequence[str]) -> dict[str, float]:
    """What guessing gives in each subtask, and in their sums."""
    chance = run.benchmarks[dataset].get("chance") or {}
    each: dict[str, float] = chance.get("abilities", {})
    if not set(names) <= set(each):
        return each
    cognition = sum(each[name] for name in names if name in MME_COGNITION)
    whole = sum(each[name] for name in names)
    return {**each, "perception": whole - cognition, "cognition": cognition, "overall": whole}


def others(runs: Sequence[Run], dataset: str) -> Grid | None:
    """The abilities of a benchmark that are neither the six nor subtasks in points."""
    have = {
        run.model: found
        for run in runs
        if (found := _abilities(run, dataset))
        and not set(ABILITIES) <= set(found)
        and "perception" not in run.benchmarks[dataset]
    }
    return _by_ability(have, f"{scores.label(dataset)}: by ability, per cent", runs, dataset) if have else None


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


def _by_ability(values: Mapping[str, Mapping[str, float]], title: str, runs: Sequence[Run], dataset: str) -> Grid:
    chance: Mapping[str, Any] = next(
        (entry["chance"] for run in runs if (entry := run.benchmarks.get(dataset, {})).get("chance")), {}
    )
    return _grid("ability", _names(values), values, title, runs, dataset, chance.get("abilities", {}))


def _grid(
    corner: str,
    names: Sequence[str],
    values: Mapping[str, Mapping[str, float | None]],
    title: str,
    runs: Sequence[Run],
    dataset: str,
    chance: Mapping[str, float],
) -> Grid:
    """A row an ability and a column a model, the best of each row bold; what guessing gives last, where it is known."""
    guessed = any(name in chance for name in names)
    rows: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for name in names:
        of_models = [found.get(name) for found in values.values()]
        bold |= {(len(rows), place + 1) for place in _best(runs, dataset, of_models)}
        rows.append([name, *map(_text, of_models), *([_text(chance.get(name))] if guessed else [])])
    return Grid([corner, *values, *(["chance"] if guessed else [])], rows, title, bold=frozenset(bold))


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
