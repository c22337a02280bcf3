"""How large a difference between two models a table of questions can show: before it is asked, and after.

Both models answer the same questions, so only those count that one of them gets right and the other wrong. With n
questions, a share p of such ones and a difference d of the shares of right answers, the estimate of d has the variance
(p - d²) / n: the normal approximation of McNemar's test, and of the percentile interval of the paired bootstrap.
Source: R. J. Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics
43 (1987), with the variance under the alternative on both sides, as an interval around the estimate has it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

POWER = 0.8
"""The part of evaluations that shall find the difference."""
LEVEL = 0.05
"""Two-sided: the part of evaluations of equal models that finds one."""


def deviations(power: float = POWER, level: float = LEVEL) -> float:
    """How many standard errors a difference must have to be found in a share `power` of evaluations: 2.80."""
    normal = NormalDist()
    return normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)


def smallest(questions: int, differing: float, power: float = POWER, level: float = LEVEL) -> float | None:
    """The smallest difference, in points of 100, that a share `power` of evaluations shows.

    From d = k sqrt((p - d²) / n) with k = `deviations`: d = k sqrt(p / (n + k²)).

    Args:
        questions: that both models answer; of circular questions or pairs, those as a whole.
        differing: the share, 0 to 1, of questions that one of the two gets right and the other wrong.
        power: as POWER.
        level: as LEVEL.

    Returns:
        Points, or None where no difference that is possible with so few differing questions would be found.

    Raises:
        ValueError: no question, or no share.
    """
    if questions < 1 or not 0 <= differing <= 1:
        raise ValueError(f"{questions} questions, a share {differing}")
    k = deviations(power, level)
    found = k * math.sqrt(differing / (questions + k**2))
    return 100 * found if 0 < found <= differing else None


def questions_for(difference: float, differing: float, power: float = POWER, level: float = LEVEL) -> int:
    """How many questions show a difference (points of 100) in a share `power` of evaluations; `smallest` backwards.

    Raises ValueError where the difference is none, or more than so many differing questions can make.
    """
    d = difference / 100
    if not 0 < d <= differing <= 1:
        raise ValueError(f"a difference of {difference} points with a share {differing} of questions that differ")
    return math.ceil(deviations(power, level) ** 2 * (differing - d**2) / d**2)
