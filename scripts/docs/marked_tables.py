"""Tables in a page of docs/ that scripts write between `<!-- table: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path


def write_tables(page: Path, tables: Mapping[str, Callable[[], str]], *, check: bool = False) -> None:
    """Make the marked tables new, or with `check` only compare.

    Raises:
        SystemExit: a mark is missing, or (check) the page says something else.
    """
    before = after = page.read_text(encoding="utf-8")
    for name, make in tables.items():
        mark = rf"(<!-- table: {name} -->\n).*?(\n<!-- end -->)"
        table = make()
        after, found = re.subn(mark, lambda match, made=table: match[1] + made + match[2], after, flags=re.DOTALL)
        if not found:
            raise SystemExit(f"error: {page} has no mark '<!-- table: {name} -->'")
    if not check:
        page.write_text(after, encoding="utf-8")
    elif after != before:
        raise SystemExit(f"error: {page} is out of date: run 'python scripts/{Path(sys.argv[0]).name}'")
