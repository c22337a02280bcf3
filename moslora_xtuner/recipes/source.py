"""A text-style mmengine config read as source: its statements, each with the comments that stand above or behind it.

`dict(key=value)` is taken apart keyword by keyword, because mmengine merges it so; any other value stays as written.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moslora_xtuner.errors import ConfigError

BASE = "_base_"
Place = tuple[int, int]
"""Line from 1, character from 0."""


@dataclass(frozen=True)
class Expression:
    """A value as written. `shift` is the indentation of its first line, None when it may not be indented anew."""

    text: str
    reads: frozenset[str]
    shift: int | None = 0

    @property
    def name(self) -> str | None:
        """The variable, when the value is nothing but one."""
        return self.text if self.text.isidentifier() and self.reads == {self.text} else None


@dataclass(frozen=True)
class Tree:
    """A call `dict(key=value, ...)`; `tail` are the comments below its last keyword."""

    items: dict[str, Item]
    tail: tuple[str, ...] = ()
    exploded: bool = False
    """Written with one keyword a line, though it may fit into one."""

    @property
    def reads(self) -> frozenset[str]:
        """The variables in it."""
        return frozenset().union(*(item.value.reads for item in self.items.values()))


@dataclass(frozen=True)
class Item:
    """A value and its comments."""

    value: Expression | Tree
    above: tuple[str, ...] = ()
    behind: str = ""


@dataclass(frozen=True)
class Statement:
    """An assignment to one name, or (name None) anything else, kept as it is. `gap`: an empty line stands before it."""

    name: str | None
    item: Item
    writes: frozenset[str]
    gap: bool


@dataclass
class Source:
    """One file of a chain."""

    path: Path
    header: list[str] = field(default_factory=list)
    """The comments above the docstring."""
    docstring: str = ""
    bases: list[Path] = field(default_factory=list)
    marker: Item | None = None
    """`_base_` with its comments."""
    imports: list[ast.Import | ast.ImportFrom] = field(default_factory=list)
    import_comments: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    tail: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    """Every name that the file reads."""


@dataclass(frozen=True)
class _Comment:
    place: Place
    text: str


@dataclass
class _Share:
    """Which comments belong to which of several neighbours."""

    above: list[list[_Comment]]
    behind: list[str]
    tail: list[_Comment]


def read(path: Path) -> Source:
    """Read one file of a chain.

    Raises:
        ConfigError: it is no Python, or in mmengine's other style, which imports instead of `_base_`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError) as fault:
        raise ConfigError(f"{path} cannot be read as Python ({fault}): mend it, or give another recipe") from fault
    return _Reader(path, text, tree.body).source()


class _Reader:
    def __init__(self, path: Path, text: str, body: list[ast.stmt]) -> None:
        self.path, self.body, self.lines = path, body, text.split("\n")
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        self.comments = [_Comment(token.start, token.string) for token in tokens if token.type == tokenize.COMMENT]

    def source(self) -> Source:
        made = Source(self.path, names=_reads(ast.Module(self.body, [])))
        spans = [self._span(node) for node in self.body]
        share = _share(self.comments, spans)
        for number, node in enumerate(self.body):
            first = share.above[number][0].place[0] if share.above[number] else spans[number][0][0]
            gap = number > 0 and first > spans[number - 1][1][0] + 1
            above = _with_gaps(share.above[number], spans[number][0][0])
            comments = [*above, *filter(None, [share.behind[number]])]
            if number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                made.docstring, made.header = str(node.value.value), comments
            elif isinstance(node, ast.Import | ast.ImportFrom):
                made.imports.append(node)
                made.import_comments += [text for text in comments if text and not text.startswith("# noqa")]
            elif (name := _target(node)) == BASE:
                made.bases = self._bases(node)
                made.marker = Item(self._statement_value(node), above, share.behind[number])
            else:
                value = self._statement_value(node)
                writes = frozenset({name}) if name else _writes(node)
                made.statements.append(Statement(name, Item(value, above, share.behind[number]), writes, gap))
        made.tail = _with_gaps(share.tail, None)
        if made.marker is None and any(_makes_lazy(node) for node in self.body):
            style = f"imports and has no `{BASE}`, which is mmengine's lazy style"
            raise ConfigError(f"{self.path} {style}: only a text-style config (`{BASE} = []`) has a flat copy")
        return made

    def _bases(self, node: ast.stmt) -> list[Path]:
        assert isinstance(node, ast.Assign)
        try:
            value = ast.literal_eval(node.value)
        except ValueError as fault:
            raise ConfigError(f"{self.path}, line {node.lineno}: `{BASE}` must be strings, no expression") from fault
        bases = [self.path.parent / name for name in ([value] if isinstance(value, str) else value)]
        for base in bases:
            if base.suffix != ".py" or not base.is_file():
                raise ConfigError(f"{self.path}, line {node.lineno}: {base} is no Python file: mend `{BASE}`")
        return bases

    def _statement_value(self, node: ast.stmt) -> Expression | Tree:
        if _target(node) is None:
            start, end = self._span(node)
            return Expression(self._slice(start, end), _reads(node), None)
        assert isinstance(node, ast.Assign)
        return self._value(node.value, self._place(node.targets[0], end=True), self._place(node, end=True))

    def _value(self, node: ast.expr, start: Place, end: Place) -> Expression | Tree:
        """The value that stands, perhaps in parentheses, between a name and the end of its assignment or keyword."""
        if _is_dict_call(node):
            assert isinstance(node, ast.Call)
            return self._tree(node)
        text = self._slice(start, end).lstrip().removeprefix("=").lstrip()
        strings = (n for n in ast.walk(node) if isinstance(n, ast.Constant | ast.JoinedStr))
        fixed = any(n.lineno != n.end_lineno for n in strings)
        line = self.lines[start[0] - 1]
        return Expression(text, _reads(node), None if fixed else len(line) - len(line.lstrip()))

    def _tree(self, node: ast.Call) -> Tree:
        spans = [(self._place(keyword), self._place(keyword, end=True)) for keyword in node.keywords]
        begin, end = self._place(node.func, end=True), self._place(node, end=True)
        share = _share([c for c in self.comments if begin <= c.place < end], spans)
        items = {}
        for number, keyword in enumerate(node.keywords):
            assert keyword.arg is not None
            start, stop = spans[number]
            value = self._value(keyword.value, (start[0], start[1] + len(keyword.arg)), stop)
            items[keyword.arg] = Item(value, tuple(c.text for c in share.above[number]), share.behind[number])
        exploded = bool(spans) and self._slice(spans[-1][1], end).startswith(",")
        return Tree(items, tuple(comment.text for comment in share.tail), exploded)

    def _span(self, node: ast.stmt) -> tuple[Place, Place]:
        start = self._place(node)
        for decorator in getattr(node, "decorator_list", []):
            start = min(start, (decorator.lineno, 0))
        return start, self._place(node, end=True)

    def _place(self, node: ast.stmt | ast.expr | ast.keyword, end: bool = False) -> Place:
        line, column = (node.end_lineno, node.end_col_offset) if end else (node.lineno, node.col_offset)
        assert line is not None
        assert column is not None
        return line, len(self.lines[line - 1].encode()[:column].decode())  # ast counts bytes

    def _slice(self, start: Place, end: Place) -> str:
        lines = self.lines[start[0] - 1 : end[0]]
        lines[-1] = lines[-1][: end[1]]
        lines[0] = lines[0][start[1] :]
        return "\n".join(lines)


def _share(comments: Sequence[_Comment], spans: Sequence[tuple[Place, Place]]) -> _Share:
    share = _Share([[] for _ in spans], ["" for _ in spans], [])
    for comment in comments:
        if any(start <= comment.place < end for start, end in spans):
            continue  # inside a neighbour, which keeps it itself
        before = [number for number, (_, end) in enumerate(spans) if end <= comment.place]
        if before and spans[before[-1]][1][0] == comment.place[0]:
            share.behind[before[-1]] = comment.text
        elif len(before) < len(spans):
            share.above[len(before)].append(comment)
        else:
            share.tail.append(comment)
    return share


def _with_gaps(comments: Sequence[_Comment], until: int | None) -> tuple[str, ...]:
    """The texts, with an empty one where empty lines divide them from each other or from line `until`."""
    lines: list[str] = []
    ends = [*(comment.place[0] for comment in comments[1:]), until]
    for comment, following in zip(comments, ends, strict=bool(comments)):
        lines.append(comment.text)
        if following is not None and following > comment.place[0] + 1:
            lines.append("")
    return tuple(lines)


def _target(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _is_dict_call(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "dict":
        return False
    return not node.args and all(keyword.arg for keyword in node.keywords)


def _names(node: ast.AST, kind: type[ast.expr_context]) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, kind))


def _reads(node: ast.AST) -> frozenset[str]:
    return frozenset(_names(node, ast.Load)) - {"dict"}


def _writes(node: ast.stmt) -> frozenset[str]:
    """The names that a statement binds or changes inside (`model["x"] = 1`, `model.update(x=1)`)."""
    parts = (n for n in ast.walk(node) if isinstance(n, ast.Subscript | ast.Attribute))
    changed = {n.value.id for n in parts if isinstance(n.value, ast.Name) and not isinstance(n.ctx, ast.Load)}
    calls = (n.value.func for n in ast.walk(node) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call))
    changed |= {f.value.id for f in calls if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name)}
    return frozenset({*_names(node, ast.Store), *changed, *filter(None, [getattr(node, "name", None)])})


def _makes_lazy(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.partition(".")[0] not in sys.stdlib_module_names for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return bool(node.level) or (node.module or "").partition(".")[0] not in sys.stdlib_module_names
    return isinstance(node, ast.With)
