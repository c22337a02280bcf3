"""What the values of an adapter's config may be, before anything is built from them.

PEFT's dataclasses take any value and fail far from it, or do not fail: `r="8"`, `lora_alpha=nan` and
`use_rslora="false"` all go through. The same rules hold for a config in Python and for one read from JSON.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

_FLAGS = ("use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "freeze_mixer", "allow_zero_mixer")
_BIASES = ("none", "all", "lora_only")
_NAMES = ("target_modules", "exclude_modules", "layers_pattern")


def is_rank(value: object) -> bool:
    """Tell whether `value` can be a rank: a whole number from 1 on, no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def value_problems(config: Mapping[str, Any]) -> list[str]:
    """Name the values of a LoRA or MoSLoRA config that have no meaning; a field that is absent has none."""
    problems = []

    def expect(name: str, fits: Callable[[Any], bool], wanted: str) -> None:
        if name in config and not fits(config[name]):
            problems.append(f"{name}={config[name]!r} is not {wanted}")

    expect("r", is_rank, "a whole number from 1 on")
    expect("lora_alpha", _is_finite, "a finite number")
    expect("lora_dropout", lambda value: _is_finite(value) and 0 <= value <= 1, "a number from 0 to 1")
    expect("bias", lambda value: value in _BIASES, f"one of {', '.join(_BIASES)}")
    for name in _FLAGS:
        expect(name, lambda value: isinstance(value, bool), "true or false")
    for name in _NAMES:
        expect(name, lambda value: value is None or _is_names(value), "a text or a list of texts")
    expect("modules_to_save", lambda value: value is None or _is_list(value, str), "a list of texts")
    expect("layers_to_transform", lambda v: v is None or isinstance(v, int) or _is_list(v, int), "a list of numbers")
    problems += _pattern_problems(config, "rank_pattern", is_rank, "a whole number from 1 on")
    problems += _pattern_problems(config, "alpha_pattern", _is_finite, "a finite number")
    return problems + [f"{where} has a broken pattern: {fault}" for where, fault in _broken(config)]


def _is_names(value: object) -> bool:
    return isinstance(value, str) or _is_list(value, str)


def _is_list(value: object, kind: type) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(entry, kind) for entry in value)


def _pattern_problems(config: Mapping[str, Any], name: str, fits: Callable[[Any], bool], wanted: str) -> list[str]:
    table = config.get(name) or {}
    if not isinstance(table, Mapping):
        return [f"{name}={table!r} is not a table of patterns"]
    return [f"{name}[{key!r}]={value!r} is not {wanted}" for key, value in table.items() if not fits(value)]


def patterns(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each regular expression of a config, as (field, expression) with PEFT's own frame around it."""
    found = []
    for name in ("rank_pattern", "alpha_pattern"):
        table = config.get(name) or {}
        found += [(name, rf"(.*\.)?({key})$") for key in (table if isinstance(table, Mapping) else ())]
    for name in ("target_modules", "exclude_modules"):
        value = config.get(name)
        if isinstance(value, str) and value.lower() != "all-linear":
            found.append((name, rf"(?:{value})\Z"))
    for name, frame in (
        ("modules_to_save", r"(^|.*\.)%s($|\..*)"),
        ("layers_pattern", r"(?:^|.*?\.)%s\.(?P<idx>\d+)\."),
    ):
        value = config.get(name) or ()
        names = [value] if isinstance(value, str) else value if _is_names(value) else ()
        found += [(name, frame % entry) for entry in names]
    return found


def _broken(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    broken = []
    for name, expression in patterns(config):
        try:
            re.compile(expression)
        except (re.error, RecursionError, OverflowError) as error:
            broken.append((name, f"{expression!r}: {error}"))
    return broken
