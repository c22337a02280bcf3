"""The score table, models by benchmarks with the mean last, in every format that somebody asks for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import UsageError

from . import scores
from .benchmarks import GROUPS
from .scores import Mean, Run


@dataclass(frozen=True)
class Table:
    """Normalised scores (0 to 100): one row a model; `values[i][j]` is None where a run has no such score."""

    group: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    means: tuple[Mean, ...]
    notes: tuple[str, ...]

    @property
    def header(self) -> list[str]:
        """Column titles, the model first and the mean last."""
        return ["model", *(scores.label(name) for name in self.datasets), "mean"]

    def best(self) -> list[float | None]:
        """The highest score of each column, None for an empty one."""
        columns = zip(*self.values, strict=True)
        return [max((value for value in column if value is not None), default=None) for column in columns]

    def rows(self, digits: int) -> list[list[str]]:
        """The cells as text: a dash for what is missing, the reason in place of a mean withheld."""
        rows = []
        for model, values, mean in zip(self.models, self.values, self.means, strict=True):
            cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
            last = f"withheld: {mean.reason}" if mean.value is None else f"{mean.value:.{digits}f}"
            rows.append([model, *cells, last])
        return rows


def groups_of(runs: Sequence[Run]) -> list[str]:
    """The named sets of benchmarks of which the runs hold something; "other" for datasets of no set."""
    present = {name for run in runs for name in run.benchmarks}
    known = [group for group, names in GROUPS.items() if present & set(names)]
    return known + (["other"] if present - {name for names in GROUPS.values() for name in names} else [])


def datasets_of(runs: Sequence[Run], group: str) -> tuple[str, ...]:
    """The columns of a group: all of a named set, or whatever else the runs hold."""
    if group in GROUPS:
        return GROUPS[group]
    named = {name for names in GROUPS.values() for name in names}
    return tuple(dict.fromkeys(name for run in runs for name in run.benchmarks if name not in named))


def build(runs: Sequence[Run], group: str | None = None) -> Table:
    """The table of one group of benchmarks (default: the first that the runs hold anything of).

    Raises UsageError when there is no run or no score.
    """
    if not runs:
        raise UsageError("No run was given: name run folders that hold a scores.json.")
    groups = groups_of(runs)
    if not groups:
        raise UsageError("The runs hold no benchmark at all: evaluate the models first.")
    group = group or groups[0]
    datasets = datasets_of(runs, group)
    values = tuple(tuple(run.normalised(name) for name in datasets) for run in runs)
    means = tuple(scores.mean(run, datasets) for run in runs)
    return Table(group, datasets, tuple(run.model for run in runs), values, means, _notes(runs, datasets))


def _notes(runs: Sequence[Run], datasets: Sequence[str]) -> tuple[str, ...]:
    """What a reader must know to trust the table: judges, limits, and runs that cannot be compared."""
    notes = []
    judges = {
        str(run.benchmarks[name]["judge"])
        for run in runs
        for name in datasets
        if name in run.benchmarks and run.benchmarks[name].get("judge")
    }
    if judges:
        notes.append(f"Answers judged by: {', '.join(sorted(judges))}.")
    for name in datasets:
        limits = {run.benchmarks[name].get("limit") for run in runs if name in run.benchmarks}
        if limits - {None}:
            notes.append(f"{scores.label(name)}: only a part was asked (limit {_list(limits)}).")
        for title, field in (("other versions of the data", "sha256"), ("other prompts", "prompts_sha256")):
            found = {run.manifest.get("datasets", {}).get(name, {}).get(field) for run in runs} - {None}
            if len(found) > 1:
                notes.append(f"{scores.label(name)}: the runs saw {title} and cannot be compared.")
    return tuple(notes)


def _list(values: set[Any]) -> str:
    return ", ".join(sorted("all" if value is None else str(value) for value in values))


def _csv(table: Table) -> str:
    target = io.StringIO()
    csv.writer(target, lineterminator="\n").writerows([table.header, *table.rows(2)])
    return target.getvalue()


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    rule = "|---|" + "---:|" * (len(table.header) - 1) + "\n"
    text = line(table.header) + rule + "".join(line(row) for row in table.rows(1))
    return text + "".join(f"\n{note}\n" for note in table.notes)


def _latex(table: Table) -> str:
    special = {
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(special.get(char, char) for char in cell) for cell in cells) + r" \\" + "\n"

    columns = "l" + "r" * (len(table.header) - 1)
    body = "".join(line(row) for row in table.rows(1))
    top = f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{line(table.header)}\\midrule\n"
    return f"{top}{body}\\bottomrule\n\\end{{tabular}}\n"


def _json(table: Table) -> str:
    rows = []
    for model, values, mean in zip(table.models, table.values, table.means, strict=True):
        row: dict[str, Any] = {"model": model, "scores": dict(zip(table.datasets, values, strict=True))}
        row["mean"] = mean.value
        if mean.value is None:
            row["mean_withheld"] = mean.reason
        rows.append(row)
    content = {"group": table.group, "scale": 100, "rows": rows, "notes": list(table.notes)}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _html(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>\n"
        for row in table.rows(1)
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"


def _terminal(table: Table) -> str:
    from rich import box
    from rich.console import Console
    from rich.markup import escape as plain
    from rich.table import Table as RichTable

    shown = RichTable(box=box.SIMPLE_HEAD)
    for place, title in enumerate(table.header):
        shown.add_column(plain(title), justify="left" if place == 0 else "right", overflow="fold")
    best = table.best()
    for row, values in zip(table.rows(1), table.values, strict=True):
        cells = [plain(cell) for cell in row]
        for place, value in enumerate(values, 1):
            if value is not None and value == best[place - 1] and len(table.models) > 1:
                cells[place] = f"[bold]{cells[place]}[/bold]"
        shown.add_row(*cells)
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(shown)
    for note in table.notes:
        console.print(note, markup=False, highlight=False)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip("\n") + "\n"


FORMATS: dict[str, Callable[[Table], str]] = {
    "terminal": _terminal,
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
    "json": _json,
    "html": _html,
}


def table(runs: Sequence[Path], format: str = "terminal", *, group: str | None = None) -> str:
    """The score table of run folders, one row a model: name, scores 0 to 100, the mean last.

    `format`: terminal, csv (two decimals), markdown, latex, json (whole precision), html. `group`: paper or
    digits (default: the first that the runs hold anything of). The mean stands only where every benchmark
    of the group does; otherwise the gap is named in its place.
    Raises UsageError for an unknown format or group, DataError for a run without valid scores.
    """
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}. Formats: {', '.join(FORMATS)}.")
    if group is not None and group not in GROUPS and group != "other":
        raise UsageError(f"There is no group of benchmarks {group!r}. Groups: {', '.join(GROUPS)}, other.")
    return FORMATS[format](build([scores.read(Path(folder)) for folder in runs], group))
