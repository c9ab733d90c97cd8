"""Geometry of the charts on a page: scales, ticks, labels and lines. Pure.

Coordinates have one decimal, so that a page stays small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

LOG_FROM = 8.0
"""If the largest value is this many times the smallest, equal factors have equal distances."""
VALUE_MAX = 1e18
"""Larger values stand at the end of an axis. Values that differ by less than its inverse are the same."""
CHAR_PX, LINE_PX = 7.2, 15.0
"""Width of a character of a label at most, in most fonts, and the height of its line."""
LABEL_CHARS_MAX = 20
"""A longer name is cut in a chart. The table has it whole."""
SIDES = {"start": 0.0, "middle": 0.5, "end": 1.0}
"""SVG's anchors of a text, and the part of its width that lies left of its x."""
PLACES = [(anchor, line) for line in (-0.5, 1.1, -1.5, 2.1, -2.5, 3.1) for anchor in SIDES]
"""Where a label may stand: how it is anchored beside the mark, and its line below the mark's centre."""
MARK_PX = 8.0
"""From a mark's centre to its label."""


class Scale(msgspec.Struct, frozen=True):
    """Maps values to coordinates of an axis.

    Attributes:
        low: The value at `start`.
        high: The value at `end`.
        start: The first coordinate.
        end: The last one; below `start` for an axis that goes up.
        ticks: Round values from `low` to `high`, which get a line and a text.
        is_log: Equal factors have equal distances.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...] = ()
    is_log: bool = False

    def at(self, value: float) -> float:
        """Return the coordinate of a value. One outside the axis stands at its nearer end."""
        low, high, inside = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, inside = math.log(low), math.log(high), math.log(inside)
        return round(self.start + ((inside - low) / (high - low) if high > low else 0.0) * (self.end - self.start), 1)


def linear_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a scale that has the values between two of its ticks. Without values it goes from 0 to 1."""
    known = [min(max(value, -VALUE_MAX), VALUE_MAX) for value in values] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low <= max(abs(high) * 1e-9, 1 / VALUE_MAX):  # one value: between 0 and twice itself, or 0 and 1
        low, high = (0.0, 1.0) if abs(high) <= 1 / VALUE_MAX else (min(0.0, 2 * low), max(0.0, 2 * high))
    step = _round_up((high - low) / 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{n * step:.12g}") for n in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], start, end, ticks)


def log_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a logarithmic scale with round ticks; a linear one from 0 if a value is 0, or if they are not far apart."""
    known = list(values) or [0.0]
    if min(known) <= 0 or max(known) < LOG_FROM * min(known):
        return linear_scale([0.0, *known], start, end)
    low, high = 1 / _round_up(1 / min(known)), _round_up(max(known))
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades <= 1.5 else (1, 3) if decades <= 3.2 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, 1 + int(decades / 6))
    ticks = (float(f"{factor}e{power}") for power, factor in itertools.product(powers, factors))
    inside = tuple(tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9))
    return Scale(low, high, start, end, inside, is_log=True)


def _round_up(value: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


class Box(NamedTuple):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Return whether the two have a common area."""
        return self[0] < other[2] and other[0] < self[2] and self[1] < other[3] and other[1] < self[3]


class Label(NamedTuple):
    """A text beside a mark: the end or the middle of its base line, as `anchor` says in SVG's words."""

    text: str
    x: float
    y: float
    anchor: str

    @property
    def box(self) -> Box:
        """The room that it takes at most."""
        width = len(self.text) * CHAR_PX
        left = self.x - width * SIDES[self.anchor]
        return Box(left, self.y - LINE_PX * 0.8, left + width, self.y + LINE_PX * 0.2)


def labels(points: Sequence[tuple[str, float, float]], room: Box) -> list[Label]:
    """Return labels of marks, so that none covers a mark or another label, or leaves the room.

    Args:
        points: The name and the place of each mark. The first ones choose first. A name without room has no label.
        room: Where labels may stand.
    """
    taken = [Box(x - 5, y - 5, x + 5, y + 5) for _name, x, y in points]
    placed: list[Label] = []
    for name, x, y in points:
        text = name if len(name) <= LABEL_CHARS_MAX else name[: LABEL_CHARS_MAX - 1] + "…"
        for anchor, line in PLACES:
            label = Label(text, x + (1 - 2 * SIDES[anchor]) * MARK_PX, round(y + line * LINE_PX * 0.75, 1), anchor)
            left, top, right, bottom = box = label.box
            inside = room.left <= left and right <= room.right and room.top <= top and bottom <= room.bottom
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                placed.append(label)
                break
    return placed


def steps(points: Iterable[tuple[float, float]], x: Scale, y: Scale) -> str:
    """Return the `d` of an SVG path that stays at each value until the next one. Points that change no pixel are left out."""
    parts: list[str] = []
    at_x = at_y = next_x = math.nan
    for point in points:
        next_x, next_y = x.at(point[0]), y.at(point[1])
        if next_y != at_y:
            parts.append(f"H{next_x:g}V{next_y:g}" if parts else f"M{next_x:g},{next_y:g}")
            at_x, at_y = next_x, next_y
    return "".join([*parts, f"H{next_x:g}"] if next_x > at_x else parts)
