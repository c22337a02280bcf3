"""A table of text in every format that somebody asks for: terminal, CSV, Markdown, LaTeX, HTML."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from ..results.sheets import write_csv

WIDTH = 160
"""Characters of a printed line: nine benchmarks, the mean and a model's name fit."""

LATEX_SIGNS = {
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
    "–": "--",
}


@dataclass(frozen=True)
class Grid:
    """A table of text: the first column names the row; `bold` holds (row, column) of cells to stand out."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()
    bold: frozenset[tuple[int, int]] = frozenset()


def as_csv(grid: Grid) -> str:
    """Comma-separated, without title and notes, so that a program can read it; no text is a formula."""
    return write_csv([grid.header, *grid.rows])


def as_markdown(grid: Grid) -> str:
    """A pipe table under its title, the notes as paragraphs."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |\n"

    title = f"**{grid.title}**\n\n" if grid.title else ""
    rule = "|---|" + "---:|" * (len(grid.header) - 1) + "\n"
    body = line(grid.header) + rule + "".join(line(row) for row in grid.rows)
    return title + body + "".join(f"\n{note}\n" for note in grid.notes)


def as_latex(grid: Grid) -> str:
    """A booktabs tabular; the title and the notes as comments."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(LATEX_SIGNS.get(char, char) for char in cell) for cell in cells) + r" \\" + "\n"

    title = f"% {grid.title}\n" if grid.title else ""
    columns = "l" + "r" * (len(grid.header) - 1)
    top = f"{title}\\begin{{tabular}}{{{columns}}}\n\\toprule\n{line(grid.header)}\\midrule\n"
    body = "".join(line(row) for row in grid.rows)
    notes = "".join(f"% {' '.join(note.split())}\n" for note in grid.notes)
    return f"{top}{body}\\bottomrule\n\\end{{tabular}}\n{notes}"


def as_html(grid: Grid) -> str:
    """A table element to paste, with its title as caption and the notes as paragraphs."""
    caption = f"<caption>{escape(grid.title)}</caption>\n" if grid.title else ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in grid.header)
    rows = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>\n"
        for row in grid.rows
    )
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in grid.notes)
    return f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n{notes}"


def as_terminal(grid: Grid) -> str:
    """Columns of plain text, at most WIDTH characters wide, with title above and notes below."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape as plain
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD)
    for place, title in enumerate(grid.header):
        shown.add_column(plain(title), justify="left" if place == 0 else "right", overflow="fold")
    for number, row in enumerate(grid.rows):
        cells = [plain(cell) for cell in row]
        shown.add_row(*(f"[bold]{cell}[/bold]" if (number, at) in grid.bold else cell for at, cell in enumerate(cells)))
    target = io.StringIO()
    console = Console(file=target, width=WIDTH, force_terminal=False)
    if grid.title:
        console.print(grid.title, markup=False, highlight=False)
    console.print(shown)
    for note in grid.notes:
        console.print(note, markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines()).strip("\n") + "\n"


RENDERERS: dict[str, Callable[[Grid], str]] = {
    "terminal": as_terminal,
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
    "html": as_html,
}
