"""A chain of configs merged at source level, as mmengine merges their values: base first, leaf last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .source import Expression, Item, Source, Statement, Tree, read

DELETE = "_delete_"
UNUSED = "# not read in this file"


@dataclass
class Merged:
    """A chain as one list of statements, each before those that read what it defines."""

    sources: list[Source]
    variables: list[Statement] = field(default_factory=list)
    settings: list[Statement] = field(default_factory=list)


def read_chain(path: Path) -> list[Source]:
    """A config and all that it inherits from, base first.

    Raises:
        ConfigError: a file cannot be read or is no text-style config.
    """
    source = read(path)
    return [*(below for base in source.bases for below in read_chain(base)), source]


def merge(sources: list[Source]) -> Merged:
    """Every name once, with the value and the comments that the chain gives it."""
    statements: list[Statement] = []
    index: dict[str, int] = {}
    for source in sources:
        before = {name: statements[place].item for name, place in index.items()}
        own: dict[str, Item] = {}
        for statement in source.statements:
            name = statement.name
            if name is None:
                statements.append(statement)
                continue
            own[name] = statement.item
            if name not in index:
                index[name] = len(statements)
                statements.append(statement)
            else:
                item = _over(before[name], statement.item, before, own) if name in before else statement.item
                statements[index[name]] = replace(statements[index[name]], item=item)
    return _grouped(sources, statements)


def _over(below: Item, leaf: Item, before: Mapping[str, Item], own: Mapping[str, Item]) -> Item:
    """What a leaf's value makes of the base's; a variable that is a dict is written out where the two differ.

    The comment above says what a thing is and stays unless the leaf has its own; the one behind speaks of the value.
    """
    above = leaf.above or below.above
    same = isinstance(leaf.value, Expression) and isinstance(below.value, Expression)
    if same and leaf.value == below.value:
        return Item(leaf.value, above, leaf.behind or below.behind)
    base, top = _written_out(below.value, before), _written_out(leaf.value, own)
    if not isinstance(base, Tree) or not isinstance(top, Tree):
        return Item(leaf.value, above, leaf.behind)
    delete = top.items.get(DELETE)
    top = replace(top, items={key: item for key, item in top.items.items() if key != DELETE})
    if delete is not None and isinstance(delete.value, Expression) and delete.value.text == "True":
        return Item(top, above, leaf.behind)
    items = dict(base.items)
    for key, item in top.items.items():
        items[key] = _over(items[key], item, before, own) if key in items else item
    both = (*below.above, *(text for text in leaf.above if text not in below.above))
    tail = (*base.tail, *(text for text in top.tail if text not in base.tail))
    if leaf.behind and below.behind and leaf.behind != below.behind:
        both = (*both, below.behind)
    return Item(Tree(items, tail, base.exploded or top.exploded), both, leaf.behind or below.behind)


def _written_out(value: Expression | Tree, names: Mapping[str, Item]) -> Expression | Tree:
    for _ in range(len(names)):  # no further, for x = y may stand beside y = x
        if not isinstance(value, Expression) or value.name is None or value.name not in names:
            break
        value = names[value.name].value
    return value


def _grouped(sources: list[Source], statements: Sequence[Statement]) -> Merged:
    """The variables, then the rest, each in the order of the chain unless one reads what comes later."""
    once = frozenset().union(*(source.names for source in sources))
    now = frozenset().union(*(statement.item.value.reads for statement in statements))
    simple = {s.name for s in statements if s.name in once and isinstance(s.item.value, Expression)}
    merged = Merged(sources)
    done: set[int] = set()

    def put(number: int, group: list[Statement]) -> None:
        if number in done:
            return
        done.add(number)
        statement = statements[number]
        reads = statement.item.value.reads
        for other, provider in enumerate(statements):
            # What is no assignment changes names: it stays after those who read them before it, and before the others.
            changed = statement.name is None and other < number and provider.item.value.reads & statement.writes
            if changed or (provider.writes & reads and (provider.name is not None or other < number)):
                put(other, group)
        if statement.name in simple and statement.name not in now:
            behind = f"{statement.item.behind}; {UNUSED[2:]}" if statement.item.behind else UNUSED
            statement = replace(statement, item=replace(statement.item, behind=behind))
        group.append(statement)

    for number, statement in enumerate(statements):
        if statement.writes and statement.writes <= simple:
            put(number, merged.variables)
    for number in range(len(statements)):
        put(number, merged.settings)
    return merged
