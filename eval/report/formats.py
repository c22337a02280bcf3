"""A table of text in every format that somebody asks for: terminal, CSV, Markdown, LaTeX, HTML."""

from __future__ import annotations

import io
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

from ..results.sheets import write_csv

WIDTH, NARROWEST = 160, 40
"""Characters of a printed line: where no terminal says how many, and at least."""
GAP = 2
"""Characters between two columns."""

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

    def marked(self) -> list[list[tuple[str, bool]]]:
        """The cells of each row, and whether they stand out."""
        return [
            [(cell, (row, at) in self.bold) for at, cell in enumerate(cells)] for row, cells in enumerate(self.rows)
        ]

    def transposed(self, corner: str) -> Grid:
        """Columns as rows, under a first header of its own."""
        columns = list(zip(self.header, *self.rows, strict=True))
        bold = frozenset((at - 1, row + 1) for row, at in self.bold)
        return replace(self, header=[corner, *columns[0][1:]], rows=columns[1:], bold=bold)


def as_csv(grid: Grid) -> str:
    """Comma-separated, without title and notes, so that a program can read it; no text is a formula."""
    return write_csv([grid.header, *grid.rows])


def as_markdown(grid: Grid) -> str:
    """A pipe table under its title, the notes as paragraphs."""

    def text(cell: str, bold: bool) -> str:
        words = " ".join(cell.replace("|", "\\|").split())
        return f"**{words}**" if bold else words

    def line(cells: Sequence[str], row: int = -1) -> str:
        return "| " + " | ".join(text(cell, (row, at) in grid.bold) for at, cell in enumerate(cells)) + " |\n"

    title = f"**{grid.title}**\n\n" if grid.title else ""
    rule = "|---|" + "---:|" * (len(grid.header) - 1) + "\n"
    body = line(grid.header) + rule + "".join(line(cells, row) for row, cells in enumerate(grid.rows))
    return title + body + "".join(f"\n{note}\n" for note in grid.notes)


def as_latex(grid: Grid) -> str:
    """A booktabs tabular; the title and the notes as comments."""

    def text(cell: str, bold: bool) -> str:
        signs = "".join(LATEX_SIGNS.get(char, char) for char in cell)
        return f"\\textbf{{{signs}}}" if bold else signs

    def line(cells: Sequence[str], row: int = -1) -> str:
        return " & ".join(text(cell, (row, at) in grid.bold) for at, cell in enumerate(cells)) + r" \\" + "\n"

    title = f"% {grid.title}\n" if grid.title else ""
    columns = "l" + "r" * (len(grid.header) - 1)
    top = f"{title}\\begin{{tabular}}{{{columns}}}\n\\toprule\n{line(grid.header)}\\midrule\n"
    body = "".join(line(cells, row) for row, cells in enumerate(grid.rows))
    notes = "".join(f"% {' '.join(note.split())}\n" for note in grid.notes)
    return f"{top}{body}\\bottomrule\n\\end{{tabular}}\n{notes}"


def as_html(grid: Grid) -> str:
    """A table element to paste, with its title as caption and the notes as paragraphs."""
    caption = f"<caption>{escape(grid.title)}</caption>\n" if grid.title else ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in grid.header)

    def text(row: int, at: int, cell: str) -> str:
        return f"<td><b>{escape(cell)}</b></td>" if (row, at) in grid.bold else f"<td>{escape(cell)}</td>"

    rows = "".join(
        f"<tr><th>{escape(cells[0])}</th>{''.join(text(row, at, cell) for at, cell in enumerate(cells) if at)}</tr>\n"
        for row, cells in enumerate(grid.rows)
    )
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in grid.notes)
    return f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n{notes}"


def terminal_width() -> int:
    """Characters of a line: COLUMNS, else the terminal's; WIDTH where there is none."""
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)


def as_terminal(grid: Grid) -> str:
    """Columns of plain text no wider than the terminal, title above and notes below; a star at what is bold.

    What is too wide goes on beneath, in blocks of columns that each begin with the first.
    """
    from rich.cells import cell_len

    width = terminal_width()
    starred = [
        [f"{cell}{'*' if (row, at) in grid.bold else ' ' if any(place == at for _, place in grid.bold) else ''}"
         for at, cell in enumerate(cells)]
        for row, cells in enumerate(grid.rows)
    ]  # fmt: skip
    wide = [max(map(cell_len, lines)) for lines in zip(*starred, strict=True)] if starred else []
    wide = [
        max(at, max(map(cell_len, title.split()), default=1)) for at, title in
        zip(wide or [1] * len(grid.header), grid.header, strict=True)
    ]  # fmt: skip
    wide[0] = max(wide[0], cell_len(grid.header[0]))
    first = width * 9 // 20
    wide = [min(at, first if place == 0 else width - first - 2 * GAP) for place, at in enumerate(wide)]
    title = textwrap.fill(grid.title, width) + "\n" if grid.title else ""
    blocks = [_block(grid.header, starred, wide, columns) for columns in _blocks(wide, width)]
    notes = [textwrap.fill(note, width, break_on_hyphens=False) for note in grid.notes]
    if grid.bold:
        notes.insert(0, "* the best")
    return _harmless(title + "\n\n".join(blocks) + "\n" + "".join(f"{note}\n" for note in notes))


def paragraphs(lines: Sequence[str]) -> str:
    """Sentences as a terminal shows them: each on lines of its own, no wider than it is."""
    filled = (textwrap.fill(line, terminal_width(), break_on_hyphens=False) for line in lines)
    return _harmless("".join(f"{line}\n" for line in filled))


def _harmless(text: str) -> str:
    """Without control characters, by which a name would colour, move or retitle the terminal."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", "\ufffd", text)


def _blocks(wide: Sequence[int], width: int) -> list[list[int]]:
    """The columns of each block: the first, and as many more as fit."""
    found: list[list[int]] = [[0]]
    for place in range(1, len(wide)):
        if len(found[-1]) > 1 and sum(wide[at] + GAP for at in [*found[-1], place]) - GAP > width:
            found.append([0])
        found[-1].append(place)
    return found


def _block(header: Sequence[str], rows: Sequence[Sequence[str]], wide: Sequence[int], columns: Sequence[int]) -> str:
    from rich import box
    from rich.console import Console
    from rich.markup import escape as plain
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False)
    for place in columns:
        left = place == 0
        shown.add_column(plain(header[place]), justify="left" if left else "right", width=wide[place], overflow="fold")
    for row in rows:
        shown.add_row(*(plain(row[place]) for place in columns))
    target = io.StringIO()
    Console(file=target, width=sum(wide) + (GAP + 1) * len(wide), force_terminal=False).print(shown, highlight=False)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines()).strip("\n")


RENDERERS: dict[str, Callable[[Grid], str]] = {
    "terminal": as_terminal,
    "csv": as_csv,
    "markdown": as_markdown,
    "latex": as_latex,
    "html": as_html,
}
