"""95 % intervals: Wilson's for shares, Student's t for means. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import msgspec

CONFIDENCE = 0.95
Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


class Interval(msgspec.Struct, frozen=True):
    """A 95 % interval; both ends belong to it."""

    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Return whether both have a value in common: then what they are of cannot be told apart."""
        return self.low <= other.high and other.low <= self.high


def share_interval(successes: int, trials: int) -> Interval | None:
    """Return Wilson's score interval of a share; None without trials.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if trials <= 0:
        return None
    share, square = successes / trials, Z * Z / trials
    middle = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    return Interval(0.0 if successes == 0 else middle - half, 1.0 if successes == trials else middle + half)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return Student's t interval of a mean; None for fewer than two values, which have no spread."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = t_quantile(count - 1) * math.sqrt(variance / count)
    return Interval(mean - half, mean + half)


@lru_cache(maxsize=256)
def t_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution, to the precision of a float."""
    low, high = 0.0, 13.0  # of one degree of freedom it is 12.7, of more it is less
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, degrees) < CONFIDENCE else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """Return the probability that |T| < t.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    is_odd = degrees % 2 == 1
    term = cosine if is_odd else 1.0
    total = term if degrees > 1 else 0.0
    for n in range(3 if is_odd else 2, degrees - 1, 2):
        term *= cosine * cosine * (n - 1) / n
        total += term
    inner = math.sin(angle) * total
    return 2 / math.pi * (angle + inner) if is_odd else inner
