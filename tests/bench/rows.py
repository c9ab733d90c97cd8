"""The rows of the table: what each figure is compared with, and what it must and may reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

NGINX_TIMES_MAX = 12
"""The naive subject's CPU in units of nginx's; above it the naive subject is slower than it must be, and the run is void."""

SUBJECTS = ("no proxy", "naive", "ours", "nginx", "litellm")
"""The names of all kinds of subjects, in their order."""

Samples = dict[tuple[str, str], list[float]]
"""Figures by subject and name, one for each round."""


class Unit(Enum):
    """What the value that a row reaches is, of each round."""

    ADDED = "added, of naive"
    """(ours - no proxy) / (naive - no proxy)."""
    NAIVE = "of naive"
    """ours / naive."""
    BASE = "of the base"
    """ours / another figure of ours."""
    ITSELF = "itself"
    """ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table."""

    figure: str
    title: str
    shown_in: str
    unit: Unit
    must: float | None = None
    aim: float | None = None
    at_least: bool = False
    """`must` and `aim` are lower bounds."""
    quick: bool = False
    """It is part of `QUICK=1`."""
    base: str = ""
    """The figure that ours is divided by, of `Unit.BASE`."""

    @property
    def sign(self) -> str:
        """What stands behind a value that was reached."""
        return "" if self.unit is Unit.ITSELF else "x"

    def figures(self) -> set[str]:
        """Return the figures that it needs."""
        return {self.figure, self.base} - {""}

    def reached(self, samples: Samples) -> list[float]:
        """Return the value of each round; empty where it was not measured."""
        ours = samples.get(("ours", self.figure), [])
        naive = samples.get(("naive", self.figure), [])
        match self.unit:
            case Unit.ITSELF:
                return ours
            case Unit.NAIVE:
                return [mine / other for mine, other in zip(ours, naive, strict=False)]
            case Unit.BASE:
                return [mine / other for mine, other in zip(ours, samples.get(("ours", self.base), []), strict=False)]
        none = samples.get(("no proxy", self.figure), [])
        return [(mine - base) / max(other - base, 1e-9) for mine, other, base in zip(ours, naive, none, strict=False)]

    def holds(self, samples: Samples, slack: float = 1.0) -> bool:
        """Return whether the median is within `must`, times a slack; True where there is none, or it was not measured."""
        values = self.reached(samples)
        if self.must is None or not values:
            return True
        middle = statistics.median(values)
        return middle * slack >= self.must if self.at_least else middle <= self.must * slack


ROWS = (
    Row("p50_1", "added p50, 1 connection", "us", Unit.ADDED, 1.0, 0.7, quick=True),
    Row("p50_16", "added p50, 16 connections, upstream of 50 ms", "us", Unit.ADDED, 1.0, 0.7, quick=True),
    Row("p99_16", "added p99, 16 connections, upstream of 50 ms", "us", Unit.ADDED, quick=True),
    Row("ttft", "added time to first token", "us", Unit.ADDED, 1.0, 0.6, quick=True),
    Row("cpu", "CPU per call", "us", Unit.NAIVE, 1.0, 0.7, quick=True),
    Row("tls", "CPU per call, upstream with TLS", "us", Unit.NAIVE, 1.0, 0.7),
    Row("chunk", "CPU per chunk of a stream", "us", Unit.NAIVE, 0.8, 0.65, quick=True),
    Row("late", "100 streams of 50 chunks/s: p99 of a chunk's delay", "us", Unit.NAIVE, 1.5, 1.1, quick=True),
    Row("mib_warm", "added by a body of 1 MiB, one message is new", "us", Unit.ADDED, 1.0, 0.9, quick=True),
    Row("mib_first", "added by a body of 1 MiB, at first sight", "us", Unit.ADDED, 2.0, 1.3, quick=True),
    Row("calls", "calls/s, one core (more is better)", "1/s", Unit.NAIVE, 0.9, 1.5, at_least=True, quick=True),
    Row("rss_idle", "memory, idle", "MiB", Unit.NAIVE, 1.2, 1.1, quick=True),
    Row("rss_load", "memory, under load", "MiB", Unit.NAIVE, 1.5, 1.2, quick=True),
    Row("rss_open", "memory, 4,000 connections, 200 of them open streams", "MiB", Unit.NAIVE),
    Row("rss_5000", "memory after 5,000 calls", "MiB", Unit.NAIVE),
    Row("rss_grown", "memory that 15,000 more calls add", "MiB", Unit.ITSELF, 3.0),
    Row("cold", "cold start to first answer", "s", Unit.ITSELF, 0.45, 0.35, quick=True),
    Row("start_1e5", "start on a ledger of 10^5 calls", "s", Unit.ITSELF, 0.6, 0.4),
    Row("start_1e6", "start on a ledger of 10^6 calls", "s", Unit.ITSELF, 0.6, 0.4),
    Row("cpu_1e3", "CPU per call on 10^3 ledger rows, of that on 10", "us", Unit.BASE, base="cpu_10"),
    Row("cpu_1e5", "CPU per call on 10^5 ledger rows, of that on 10", "us", Unit.BASE, base="cpu_10"),
    Row("cpu_256", "CPU per call with 256 accounts, of that with 1", "us", Unit.BASE, base="cpu_10"),
    Row("hold_mib", "longest hold of the loop, body of 1 MiB", "ms", Unit.ITSELF, 5.0),
    Row("hold_24k", "longest hold of the loop, 24,000 messages", "ms", Unit.ITSELF, 5.0),
    Row("hold_32mib", "longest hold of the loop, body of 32 MiB", "ms", Unit.ITSELF),
    Row("trials_1", "1 trial in a container, of bare docker run", "s", Unit.BASE, base="docker_1"),
    Row("trials_16", "16 trials in containers, of bare docker run", "s", Unit.BASE, 2.0, 1.6, base="docker_16"),
)
"""The bounds of calls, memory and starts."""


def chosen_rows(names: Sequence[str], *, quick: bool) -> list[Row]:
    """Return the rows that are named so, or begin so if none is; without names all rows, or the quick ones.

    Raises:
        ValueError: A name begins no row.
    """
    if not names:
        return [row for row in ROWS if row.quick or not quick]
    chosen: set[str] = set()
    for name in names:
        figures = {row.figure for row in ROWS}
        exact = figures & {name} or {figure for figure in figures if figure.startswith(name)}
        if not exact:
            raise ValueError(f"no row begins with {name}; rows: {', '.join(row.figure for row in ROWS)}")
        chosen |= exact
    return [row for row in ROWS if row.figure in chosen]


def why_void(samples: Samples) -> str | None:
    """Return why the run is worth nothing, None if it is not: the naive subject is judged by nginx."""
    naive, nginx = samples.get(("naive", "cpu")), samples.get(("nginx", "cpu"))
    if not naive or not nginx:
        return None
    times = statistics.median(naive) / statistics.median(nginx)
    if times <= NGINX_TIMES_MAX:
        return None
    return (
        f"the naive subject took {times:.1f} times nginx's CPU, above {NGINX_TIMES_MAX}: it is slower than it must be"
    )
