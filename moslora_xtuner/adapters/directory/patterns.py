"""Regular expressions and lists of names that came with a directory, matched within a bound on time.

Python's `re` has no limit: `(a+)+b` over a long name takes longer than anybody waits, here as in stock PEFT.
So patterns are tried first in a process of their own, which can be ended.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import AdapterError
from ..settings import patterns

SECONDS = 10.0
_MOST_NAMES = 1000
"""A list may be longer than this if the model has as many modules: PEFT compares each with each."""
_PLAIN = re.compile(r"[\w.-]*")
_MATCHER = """
import json, re, sys
expressions, names = json.load(sys.stdin)
for number, expression in enumerate(expressions):
    print(number, flush=True)
    for name in names:
        re.match(expression, name)
"""


def check_patterns_end(config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Match every pattern of `config` against every name, as PEFT will.

    Raises:
        AdapterError: one takes more than `SECONDS`, or a list of names is longer than it can mean.
    """
    names = list(names)
    for field in ("target_modules", "exclude_modules", "modules_to_save", "rank_pattern", "alpha_pattern"):
        value = config.get(field) or ()
        if not isinstance(value, str) and len(value) > max(_MOST_NAMES, len(names)):
            raise AdapterError(f"{field} has {len(value)} entries for {len(names)} modules: name the modules once")
    found = [(field, expression) for field, expression in patterns(config) if not _is_plain(config, field, expression)]
    if not found or not names:
        return
    text = json.dumps([[expression for _, expression in found], names])
    command = [sys.executable, "-I", "-S", "-c", _MATCHER]
    try:
        subprocess.run(command, input=text, text=True, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as late:
        reached = (late.stdout or b"0").split()
        field, expression = found[int(reached[-1]) if reached else 0]
        raise AdapterError(
            f"{field}: matching {expression!r} against the names of {len(names)} modules takes more than "
            f"{SECONDS:g} s; write it without nested repetition"
        ) from None


def _is_plain(config: Mapping[str, Any], field: str, expression: str) -> bool:
    """Whether nothing is repeated but by PEFT's frame: names, which cannot take long."""
    value = config[field]
    entries = [value] if isinstance(value, str) else list(value)
    return all(_PLAIN.fullmatch(entry) for entry in entries)
