"""A recipe as one file to edit: without `_base_`, with the comments, the variables and the places in the environment.

The copy is made of the sources and then loaded beside the recipe: it is given out only when both are the same config.
What a comment says behind `_base_`, or behind a value that a later file replaces, is no longer true and is left out.
"""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import ConfigError, OutputError, UsageError
from moslora_xtuner.progress import quiet

from ..atomic import atomic_write
from .merging import Merged, merge, read_chain
from .source import BASE, Expression, Item, Source, Statement, Tree

WIDTH = 120
MARKER = "# says that this is a text-style config, in which custom_imports runs; else imports make it lazy"


def write_flat(config: Path, out: Path, *, force: bool = False) -> None:
    """Write the flat copy of a recipe.

    Raises:
        UsageError: `out` is no Python file's name.
        OutputError: `out` exists and is not to be replaced, or cannot be written.
        ConfigError: as `flat`; nothing is written then.
    """
    if out.suffix != ".py":
        raise UsageError(f"{out} must end in .py, or nothing can train with it: choose another name")
    if out.is_dir() or (out.exists() and not force):
        raise OutputError(f"{out} exists: choose another name" + ("" if out.is_dir() else ", or replace it by --force"))
    atomic_write(out, flat(config, out))


def flat(config: Path, out: Path | None = None) -> str:
    """The text of the flat copy; its launch lines name `out`, or still the recipe.

    Raises:
        ConfigError: the recipe does not load or cannot be read, or its copy would be another config.
    """
    wanted = _load(config, f"{config} does not load", "mend it first")
    inherit = f"inherit from it instead: {BASE} = [{config.name!r}]"
    merged = merge(read_chain(config))
    text = "\n".join([*_head(merged, out), *_body(merged)]) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / (out or config).name
        copy.write_text(text, encoding="utf-8")
        found = _load(copy, f"the flat copy of {config} would not load", inherit)
    if changed := sorted(_differences(wanted, found)):
        raise ConfigError(
            f"the flat copy of {config} would change {', '.join(changed)}, since each file of a chain computes with "
            f"its own variables: write the values out in these files, or {inherit}"
        )
    return text


def _load(path: Path, failure: str, advice: str) -> dict[str, Any]:
    from mmengine.config import Config

    try:
        with quiet():
            # Not imported: the plugin changes xtuner, and the values are the same without it.
            found: dict[str, Any] = Config.fromfile(path, import_custom_modules=False).to_dict()
    except Exception as fault:  # a config is a program: anything may come out of it
        raise ConfigError(f"{failure} ({type(fault).__name__}: {fault}): {advice}") from fault
    return found


def _differences(wanted: Any, found: Any, key: str = "") -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(found, dict):
        for name in {**wanted, **found}:
            inner = f"{key}.{name}" if key else str(name)
            if name in wanted and name in found:
                yield from _differences(wanted[name], found[name], inner)
            else:
                yield inner
    elif type(wanted) is not type(found) or wanted != found:
        yield key


def _head(merged: Merged, out: Path | None) -> list[str]:
    lines = list(dict.fromkeys(text for source in merged.sources for text in source.header))
    if docstring := _docstring(merged.sources, out):
        lines += [docstring, ""]
    markers = [source.marker for source in merged.sources if source.marker]
    lines += dict.fromkeys(text for marker in markers for text in marker.above if text)
    root = markers[0].behind if markers and not merged.sources[0].bases else ""
    lines += [f"{BASE} = []  {root or MARKER}", ""]
    comments = dict.fromkeys(text for source in merged.sources for text in source.import_comments)
    for section in _imports(merged.sources):
        lines += [*comments, *section, ""]
        comments = {}
    return lines


def _docstring(sources: Sequence[Source], out: Path | None) -> str:
    """The leaf's, and of what it is made of the parts: those say which variables of the environment are read."""
    leaf = sources[-1]
    text = leaf.docstring
    if out is not None:
        launch = re.compile(rf"\b(train )(?:\S*/)?{re.escape(leaf.path.stem)}(?:\.py)?(?=\s|$)")
        text = launch.sub(lambda found: found[1] + shlex.quote(out.as_posix()), text)
    parts = [text.strip("\n ")]
    for source in reversed(sources[:-1]):
        if source.path.parent.name == BASE and source.docstring:
            parts.append(f"`{BASE}/{source.path.name}`, which is part of this file:\n{source.docstring.strip()}")
    text = "\n\n".join(part for part in parts if part)
    text = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if not text:
        return ""
    return f'"""{text}\n"""' if "\n" in text or text.endswith('"') else f'"""{text}"""'


def _imports(sources: Sequence[Source]) -> Iterator[list[str]]:
    """The imports of all files, each once, sorted as ruff does: the standard library's, then the others."""
    whole: set[tuple[str, str | None]] = set()
    parts: set[tuple[str, str, str | None]] = set()
    for node in (node for source in sources for node in source.imports):
        if isinstance(node, ast.Import):
            whole |= {(alias.name, alias.asname) for alias in node.names}
        else:
            parts |= {(node.module or "", alias.name, alias.asname) for alias in node.names}
    lines = [(module, f"import {module}" + _as(name)) for module, name in sorted(whole, key=_order)]
    plain: dict[str, list[str]] = {}
    for module, name, alias in sorted(parts, key=_order):
        if alias is None:
            plain.setdefault(module, []).append(name)
    lines += sorted(
        [(module, f"from {module} import {', '.join(names)}") for module, names in plain.items()]
        + [(module, f"from {module} import {name}{_as(alias)}") for module, name, alias in parts if alias]
    )
    standard = [line for module, line in lines if module.partition(".")[0] in sys.stdlib_module_names]
    others = [line for _, line in lines if line not in standard]
    for section in (standard, others):
        if section:
            yield [f"{line}  # noqa: E402" for line in section]


def _as(alias: str | None) -> str:
    return f" as {alias}" if alias else ""


def _order(names: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(name or "" for name in names)


def _body(merged: Merged) -> list[str]:
    lines: list[str] = []
    for group in (merged.variables, merged.settings):
        for number, statement in enumerate(group):
            if lines and lines[-1] and (number == 0 or statement.gap):
                lines.append("")
            lines += _statement(statement)
    for source in merged.sources:
        lines += ["", *source.tail] if source.tail else []
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _statement(statement: Statement) -> list[str]:
    return _item(f"{statement.name} = " if statement.name else "", statement.item, 0, "")


def _item(name: str, item: Item, indent: int, end: str) -> list[str]:
    """The lines of one assignment or keyword, which ends in `end`, with its comments."""
    pad = " " * indent
    above = [pad + text if text else "" for text in item.above]
    after = end + (f"  {item.behind}" if item.behind else "")
    if isinstance(item.value, Expression):
        if item.behind and "\n" not in item.value.text and len(pad + name + item.value.text + after) > WIDTH:
            above, after = [*above, pad + item.behind], end
        return [*above, *_reindented(pad + name + item.value.text + after, item.value.shift, indent)]
    short = _one_line(item.value)
    if short is not None and len(pad + name + short + after) <= WIDTH:
        return [*above, pad + name + short + after]
    inner = [line for key, below in item.value.items.items() for line in _item(f"{key}=", below, indent + 4, ",")]
    tail = [f"{pad}    {text}" for text in item.value.tail]
    return [*above, f"{pad}{name}dict(", *inner, *tail, f"{pad}){after}"]


def _one_line(value: Expression | Tree) -> str | None:
    """The value in one line; None where comments or its author want several."""
    if isinstance(value, Expression):
        return None if "\n" in value.text else value.text
    parts = [(key, item, _one_line(item.value)) for key, item in value.items.items()]
    if value.exploded or value.tail or any(text is None or item.above or item.behind for _, item, text in parts):
        return None
    return f"dict({', '.join(f'{key}={text}' for key, _, text in parts)})"


def _reindented(text: str, shift: int | None, indent: int) -> list[str]:
    first, *rest = text.split("\n")
    if shift is None:
        return [first, *rest]
    return [first, *(" " * max(0, indent + len(line) - len(line.lstrip()) - shift) + line.lstrip() for line in rest)]
