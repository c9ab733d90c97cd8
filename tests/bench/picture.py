"""The picture of a result: a bar for each row that is a ratio, on a logarithmic scale, with `must` as a line across it."""

from __future__ import annotations

import math
import statistics
from html import escape

from tests.bench.report import Result, figure
from tests.bench.rows import Row, Unit

WIDTH, LEFT, RIGHT, TOP, LINE = 960, 400, 80, 56, 26
SMALLEST, LARGEST = 0.1, 30.0
TICKS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
STYLE = """
svg { background: #fff; } text { font: 13px system-ui, sans-serif; fill: #1f2328; } .small { fill: #59636e; font-size: 11px; }
.bar { fill: #2a78d6; } .missed { fill: #d1242f; } .range { stroke: #1f2328; } .grid { stroke: #d1d9e0; } .one { stroke: #59636e; }
.must { stroke: #1a7f37; stroke-width: 3; }
"""


def draw(result: Result) -> str:
    """Return the picture as SVG: for each row its median, its smallest and its largest round, and `must`."""
    rows = [(row, row.reached(result.samples)) for row in result.rows if row.unit in (Unit.ADDED, Unit.NAIVE)]
    rows = [(row, values) for row, values in rows if values]
    bottom = TOP + LINE * len(rows)
    parts = [_grid(tick, bottom) for tick in TICKS]
    for number, (row, values) in enumerate(rows):
        parts += _bar(row, values, TOP + LINE * number)
    head = (
        f'<text x="16" y="22">Of a naive pass-through in the same run, {escape(result.date)}</text>'
        '<text class="small" x="16" y="40">bar: median of the rounds; line: smallest to largest; green: must</text>'
    )
    size = f'viewBox="0 0 {WIDTH} {bottom + 34}" width="{WIDTH}" height="{bottom + 34}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{STYLE}</style>", head, *parts, "</svg>"]
    return "\n".join(lines) + "\n"


def _x(value: float) -> float:
    """Return where a ratio lies."""
    within = min(max(value, SMALLEST), LARGEST)
    share = math.log(within / SMALLEST) / math.log(LARGEST / SMALLEST)
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _grid(tick: float, bottom: int) -> str:
    kind = "one" if tick == 1 else "grid"
    line = f'<line class="{kind}" x1="{_x(tick)}" x2="{_x(tick)}" y1="{TOP - 6}" y2="{bottom}"/>'
    return line + f'<text class="small" text-anchor="middle" x="{_x(tick)}" y="{bottom + 18}">{tick:g}x</text>'


def _bar(row: Row, values: list[float], y: int) -> list[str]:
    middle = statistics.median(values)
    missed = row.must is not None and (middle < row.must if row.at_least else middle > row.must)
    half = y + LINE // 2 - 2
    kind, length = "bar missed" if missed else "bar", max(_x(middle) - LEFT, 1)
    parts = [
        f'<text x="16" y="{half + 5}">{escape(row.title)}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{y + 3}" width="{length:.1f}" height="{LINE - 9}"/>',
        f'<line class="range" x1="{_x(min(values))}" x2="{_x(max(values))}" y1="{half}" y2="{half}"/>',
        f'<text x="{WIDTH - RIGHT + 12}" y="{half + 5}">{figure(middle)}x</text>',
    ]
    if row.must is not None:
        parts.append(f'<line class="must" x1="{_x(row.must)}" x2="{_x(row.must)}" y1="{y + 1}" y2="{y + LINE - 4}"/>')
    return parts
