"""Which of several scores is the best: what tables make bold."""

from __future__ import annotations

import math
from collections.abc import Sequence


def best_of(values: Sequence[float | None]) -> frozenset[int]:
    """The places of the highest value, all of them where several have it.

    Empty where there is nothing to choose from: less than two values, or all the same.
    """
    known = [value for value in values if value is not None]
    if len(known) < 2 or _same(max(known), min(known)):
        return frozenset()
    top = max(known)
    return frozenset(place for place, value in enumerate(values) if value is not None and _same(value, top))


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
