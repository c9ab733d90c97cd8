"""What is measured: experiments on one subject, the rows that are made of them, and the rounds.

A round asks each subject the same, one right after the other, and gives one ratio; a row shows the median of the rounds. The
first round warms up and is thrown away.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tests.bench import load
from tests.bench.subjects import Running, Upstream
from tests.bench.upstream import Behaviour

CONNECTIONS = 16
DELAY_S = 0.05
CHUNK_STREAMS, CHUNK_INTERVAL_S = 16, 0.004
CHUNKS_FEW, CHUNKS_MANY = 10, 160
LIVE_STREAMS, LIVE_INTERVAL_S = 100, 0.02
US = 1e6
NGINX_TIMES_MAX = 12
"""The naive subject's CPU in units of nginx's; above it the naive subject is slower than it must be, and the run is void."""

Sample = Mapping[str, float]
"""Figures of one experiment on one subject."""
Samples = dict[tuple[str, str], list[float]]
"""Figures by subject and name, one for each round."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What an experiment works with: the upstream, and for how long a load runs."""

    upstream: Upstream
    seconds: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment on a running subject."""

    figures: tuple[str, ...]
    """The names of the figures that it gives."""
    run: Callable[[Bench, Running], Awaitable[Sample]]
    others_too: bool = True
    """nginx and LiteLLM take part; else no proxy, naive and ours."""


async def one_connection(bench: Bench, subject: Running) -> Sample:
    """Calls one after another."""
    bench.upstream.behave(Behaviour())
    seen = await load.run_for(subject.target, bench.seconds)
    return {"p50_1": _us(seen.call_ns, 50)}


async def sixteen_connections(bench: Bench, subject: Running) -> Sample:
    """16 agents, an upstream that takes 50 ms."""
    bench.upstream.behave(Behaviour(delay_s=DELAY_S))
    seen = await load.run_for(subject.target, bench.seconds, connections=CONNECTIONS, stagger_s=DELAY_S)
    return {"p50_16": _us(seen.call_ns, 50), "p99_16": _us(seen.call_ns, 99)}


async def saturated(bench: Bench, subject: Running) -> Sample:
    """16 agents, as fast as it goes."""
    bench.upstream.behave(Behaviour())
    cpu_s = subject.cpu_s()
    seen = await load.run_for(subject.target, bench.seconds, connections=CONNECTIONS)
    used_s = subject.cpu_s() - cpu_s
    return {"calls": seen.calls / seen.wall_s, "cpu": used_s / seen.calls * US, "rss_load": subject.rss_bytes() / 2**20}


async def first_token(bench: Bench, subject: Running) -> Sample:
    """Streams one after another: how long until the first chunk is here."""
    bench.upstream.behave(Behaviour(chunks=5, interval_s=0.002))
    seen = await load.run_for(subject.target, bench.seconds, stream=True)
    return {"ttft": _us(seen.first_ns, 50)}


async def chunk_cpu(bench: Bench, subject: Running) -> Sample:
    """CPU that a stream of many chunks costs above a stream of few."""
    cost_us: list[float] = []
    for chunks in (CHUNKS_FEW, CHUNKS_MANY):
        bench.upstream.behave(Behaviour(chunks=chunks, interval_s=CHUNK_INTERVAL_S))
        cpu_s = subject.cpu_s()
        stagger_s = CHUNK_INTERVAL_S * chunks
        seen = await load.run_for(
            subject.target, bench.seconds, connections=CHUNK_STREAMS, stagger_s=stagger_s, stream=True
        )
        cost_us.append((subject.cpu_s() - cpu_s) / seen.calls * US)
    return {"chunk": (cost_us[1] - cost_us[0]) / (CHUNKS_MANY - CHUNKS_FEW)}


async def live_streams(bench: Bench, subject: Running) -> Sample:
    """100 streams of 50 chunks/s: how late a chunk is."""
    bench.upstream.behave(Behaviour(chunks=int(max(bench.seconds, 2.0) / LIVE_INTERVAL_S), interval_s=LIVE_INTERVAL_S))
    seen = await load.run_for(subject.target, 0.1, connections=LIVE_STREAMS, stagger_s=LIVE_INTERVAL_S * 5, stream=True)
    return {"late_p99": _us(seen.late_ns, 99)}


def _us(times_ns: Sequence[int], percent: int) -> float:
    """Return a percentile, in microseconds."""
    ordered = sorted(times_ns)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] / 1000


EXPERIMENTS = (
    Experiment(("p50_1",), one_connection),
    Experiment(("p50_16", "p99_16"), sixteen_connections),
    Experiment(("cpu", "calls", "rss_load"), saturated),
    Experiment(("ttft",), first_token),
    Experiment(("chunk",), chunk_cpu),
    Experiment(("late_p99",), live_streams, others_too=False),
)


class Unit(Enum):
    """What a row's reached value is."""

    ADDED = "added, of naive"
    """(ours - no proxy) / (naive - no proxy)."""
    NAIVE = "of naive"
    """ours / naive."""
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
    quick: bool = True
    """It is part of `QUICK=1`."""

    def reached(self, samples: Samples) -> list[float]:
        """Return the value of each round; empty where it was not measured."""
        ours = samples.get(("ours", self.figure), [])
        if self.unit is Unit.ITSELF:
            return ours
        naive = samples.get(("naive", self.figure), [])
        if self.unit is Unit.NAIVE:
            return [mine / other for mine, other in zip(ours, naive, strict=True)]
        none = samples.get(("no proxy", self.figure), [])
        return [(mine - base) / max(other - base, 1e-9) for mine, other, base in zip(ours, naive, none, strict=True)]

    def holds(self, samples: Samples, slack: float = 1.0) -> bool:
        """Return whether the median is within `must`, times a slack."""
        values = self.reached(samples)
        if self.must is None or not values:
            return True
        middle = statistics.median(values)
        return middle * slack >= self.must if self.at_least else middle <= self.must * slack


ROWS = (
    Row("p50_1", "added p50, 1 connection", "us", Unit.ADDED, 1.0, 0.7),
    Row("p50_16", "added p50, 16 connections, upstream of 50 ms", "us", Unit.ADDED, 1.0, 0.7),
    Row("p99_16", "added p99, 16 connections, upstream of 50 ms", "us", Unit.ADDED),
    Row("ttft", "added time to first token", "us", Unit.ADDED, 1.0, 0.6),
    Row("cpu", "CPU per call", "us", Unit.NAIVE, 1.0, 0.7),
    Row("chunk", "CPU per chunk of a stream", "us", Unit.NAIVE, 0.8, 0.65),
    Row("late_p99", "100 streams of 50 chunks/s: p99 of how late a chunk is", "us", Unit.NAIVE, 1.5, 1.1, quick=False),
    Row("calls", "calls/s, one core", "1/s", Unit.NAIVE, 0.9, 1.5, at_least=True),
    Row("rss_load", "memory under load", "MiB", Unit.NAIVE, 1.5, 1.2),
)


def chosen_rows(names: Sequence[str], *, quick: bool) -> list[Row]:
    """Return the rows that these names begin, of all rows or of the quick ones; no names: all of these.

    Raises:
        ValueError: A name begins no row.
    """
    rows = [row for row in ROWS if row.quick or not quick]
    if unknown := [name for name in names if not any(row.figure.startswith(name) for row in ROWS)]:
        raise ValueError(f"no row begins with {', '.join(unknown)}; rows: {', '.join(row.figure for row in ROWS)}")
    return [row for row in ROWS if any(row.figure.startswith(name) for name in names)] if names else rows


async def measure(bench: Bench, subjects: Sequence[Running], rows: Sequence[Row], rounds: int) -> Samples:
    """Return the figures of the rows, by subject and round.

    Args:
        bench: The upstream, and how long a load runs.
        subjects: They are asked in turns.
        rows: Experiments that give no figure of these are left out.
        rounds: Kept rounds; one more is thrown away.
    """
    asked = {row.figure for row in rows}
    samples: Samples = {}
    for number in range(rounds + 1):
        for experiment in EXPERIMENTS:
            if asked.isdisjoint(experiment.figures):
                continue
            for subject in subjects:
                if not experiment.others_too and subject.name not in ("no proxy", "naive", "ours"):
                    continue
                found = await experiment.run(bench, subject)
                for figure, value in found.items():
                    if number:
                        samples.setdefault((subject.name, figure), []).append(value)
    return samples


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
