"""Which recipes ship with the package, read without running them: `moslora config` answers at once."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from moslora_xtuner.errors import ConfigError

_ROW = re.compile(r"Paper, Table 5, row (\d+)\.")


@dataclass(frozen=True)
class Recipe:
    """A shipped recipe: its name, its docstring's first line, and its row of the paper's Table 5, counted from 1."""

    name: str
    title: str
    row: int | None


def recipes() -> list[Recipe]:
    """All shipped recipes by name."""
    found = []
    for name in _names():
        text = ast.get_docstring(ast.parse((_folder() / f"{name}.py").read_text(encoding="utf-8"))) or ""
        row = _ROW.search(text)
        found.append(Recipe(name, text.partition("\n")[0], int(row[1]) if row else None))
    return found


def resolve_config(config: str) -> Path:
    """The file of a config: a path, or the name of one that ships with the package.

    Raises:
        ConfigError: neither; the message lists the shipped names.
    """
    path = Path(config)
    if path.is_file():
        return path
    shipped = _folder() / f"{path.stem}.py"
    if path.parent == Path() and shipped.is_file():
        return shipped
    raise ConfigError(f"no config {config!r}: give a file or one of {', '.join(_names())}")


def _folder() -> Path:
    return Path(str(files("moslora_xtuner.configs")))


def _names() -> list[str]:
    return sorted(path.stem for path in _folder().glob("*.py") if path.stem != "__init__")
