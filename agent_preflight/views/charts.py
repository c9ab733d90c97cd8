"""Geometry of the charts on a page: scales, ticks, labels and lines. Pure.

Coordinates have one decimal, so that a page stays small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import msgspec

LOG_FROM = 8.0
"""If the largest value is this many times the smallest, equal factors have equal distances."""
VALUE_MAX = 1e12
"""Larger values stand at the end of an axis. Values that differ by less than its inverse are the same."""
ZERO_GAP = 0.08
"""The part of a logarithmic axis that separates 0 from the smallest other value."""
CHAR_PX, LINE_PX = 7.2, 15.0
"""Width of a character of a label at most, in most fonts, and the height of its line."""
LABEL_CHARS_MAX = 20
"""A longer name is cut in a chart. The table has it whole."""
PLACES = ((1, -0.5), (1, 1.1), (-1, -0.5), (-1, 1.1), (0, -0.9), (0, 1.7), (1, -1.5), (1, 2.1), (-1, -1.5), (-1, 2.1))
"""Where a label may stand: its side of the mark (1 right, -1 left, 0 centred), and its line below the mark's centre."""
MARK_PX = 8.0
"""From a mark's centre to its label."""


class Scale(msgspec.Struct, frozen=True):
    """Maps values to coordinates of an axis.

    Attributes:
        low: The value at `start`; on a logarithmic axis the smallest one above 0.
        high: The value at `end`.
        start: The first coordinate.
        end: The last one; below `start` for an axis that goes up.
        ticks: Round values from `low` to `high`, which get a line and a text.
        is_log: Equal factors have equal distances. Values of 0 and below then stand at `start`.
        has_zero: A logarithmic axis on which 0 stands apart from `low`.
    """

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    is_log: bool = False
    has_zero: bool = False

    def at(self, value: float) -> float:
        """Return the coordinate of a value. One outside the axis stands at its nearer end."""
        inside = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
            share = share * (1 - ZERO_GAP) + ZERO_GAP if self.has_zero else share
            share = 0.0 if value <= 0 else share
        else:
            share = (inside - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def linear_scale(values: Iterable[float], start: float, end: float, *, ticks: int = 5) -> Scale:
    """Return a scale that has the values between two of its ticks. Without values it goes from 0 to 1.

    Args:
        values: What must be on it.
        start: Its first coordinate.
        end: Its last one.
        ticks: About how many steps it has.
    """
    known = [min(max(value, -VALUE_MAX), VALUE_MAX) for value in values] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low <= max(
        abs(high) * 1e-9, 1 / VALUE_MAX
    ):  # one value: it stands between 0 and twice itself, or between 0 and 1
        low, high = (0.0, 1.0) if abs(high) <= 1 / VALUE_MAX else (min(0.0, 2 * low), max(0.0, 2 * high))
    step = _round_up((high - low) / ticks)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = tuple(float(f"{n * step:.12g}") for n in range(first, last + 1))
    return Scale(marks[0], marks[-1], start, end, marks)


def log_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a logarithmic scale with round ticks; a linear one from 0 if the values above 0 are not far apart."""
    known = list(values)
    above = [value for value in known if value > 0]
    if not above or max(above) < LOG_FROM * min(above):
        return linear_scale([0.0, *known], start, end)
    low, high = 1 / _round_up(1 / min(above)), _round_up(max(above))
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades <= 1.5 else (1, 3) if decades <= 3.2 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, 1 + int(decades / 6))
    ticks = (float(f"{factor}e{power}") for power, factor in itertools.product(powers, factors))
    inside = tuple(tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9))
    return Scale(low, high, start, end, inside, is_log=True, has_zero=len(above) < len(known))


def _round_up(value: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


class Label(msgspec.Struct, frozen=True):
    """A text beside a mark.

    Attributes:
        x: Where the text begins, ends or has its middle, as `anchor` says.
        y: Its base line.
        anchor: SVG's `start`, `end` or `middle`.
    """

    text: str
    x: float
    y: float
    anchor: str


class Box(msgspec.Struct, frozen=True):
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Return whether the two have a common area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def label_box(label: Label) -> Box:
    """Return the room that a label takes at most."""
    width = len(label.text) * CHAR_PX
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return Box(left, label.y - LINE_PX * 0.8, left + width, label.y + LINE_PX * 0.2)


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
        for side, lines in PLACES:
            anchor = {1: "start", -1: "end", 0: "middle"}[side]
            label = Label(text, round(x + side * MARK_PX, 1), round(y + lines * LINE_PX * 0.75, 1), anchor)
            box = label_box(label)
            inside = (
                room.left <= box.left and box.right <= room.right and room.top <= box.top and box.bottom <= room.bottom
            )
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                placed.append(label)
                break
    return placed


def steps(points: Iterable[tuple[float, float]], x: Scale, y: Scale) -> str:
    """Return the `d` of an SVG path that stays at each value until the next one. Points that change no pixel are left out."""
    parts: list[str] = []
    at_x = at_y = math.nan
    for point in points:
        next_x, next_y = x.at(point[0]), y.at(point[1])
        if not parts:
            parts.append(f"M{next_x:g},{next_y:g}")
        elif next_y != at_y:
            parts.append((f"H{next_x:g}" if next_x != at_x else "") + f"V{next_y:g}")
        else:
            continue
        at_x, at_y = next_x, next_y
    if parts and next_x != at_x:
        parts.append(f"H{next_x:g}")
    return "".join(parts)


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """Return the `points` of an SVG polyline through coordinates."""
    return " ".join(f"{x:g},{y:g}" for x, y in points)
