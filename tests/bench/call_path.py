"""Experiments on the path of a call: what a subject adds to its time, and the CPU that it takes.

They share one running subject of each kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.bench import load
from tests.bench.load import Conversation, Load
from tests.bench.rounds import Bench, Experiment, Sample
from tests.bench.rows import SUBJECTS
from tests.bench.subjects import Kind
from tests.bench.upstream import Behaviour

OWN = ("no proxy", "naive", "ours")
"""Those of ours: without what others may have installed."""
PROXIES = SUBJECTS[1:]

CONNECTIONS = 16
DELAY_S = 0.05
CHUNK_STREAMS, CHUNK_INTERVAL_S = 16, 0.004
CHUNKS_FEW, CHUNKS_MANY = 10, 160
LIVE_STREAMS, LIVE_CHUNKS, LIVE_INTERVAL_S = 100, 100, 0.02
MIB_MESSAGES, MIB_MESSAGE_BYTES = 256, 4096
US = 1e6

streams: Callable[[], Conversation] = partial(Conversation, stream=True)


async def one_connection(bench: Bench, kind: Kind) -> Sample:
    """Calls one after another."""
    seen = await _run(bench, kind, Behaviour())
    return {"p50_1": us(seen.call_ns, 50)}


async def sixteen_connections(bench: Bench, kind: Kind) -> Sample:
    """16 agents, an upstream that takes 50 ms."""
    behaviour = Behaviour(delay_s=DELAY_S)
    seen = await _run(bench, kind, behaviour, connections=CONNECTIONS, stagger_s=DELAY_S)
    return {"p50_16": us(seen.call_ns, 50), "p99_16": us(seen.call_ns, 99)}


async def saturated(bench: Bench, kind: Kind) -> Sample:
    """16 agents, as fast as it goes."""
    subject = bench.shared(kind)
    cpu_s = subject.cpu_s()
    seen = await _run(bench, kind, Behaviour(), connections=CONNECTIONS)
    used_s = subject.cpu_s() - cpu_s
    return {"calls": seen.calls / seen.wall_s, "cpu": used_s / seen.calls * US, "rss_load": subject.rss_mib()}


async def first_token(bench: Bench, kind: Kind) -> Sample:
    """Streams one after another: how long until the first chunk is here."""
    seen = await _run(bench, kind, Behaviour(chunks=5, interval_s=0.002), conversation=streams)
    return {"ttft": us(seen.first_ns, 50)}


async def chunk_cpu(bench: Bench, kind: Kind) -> Sample:
    """The CPU that a stream of many chunks costs above a stream of few."""
    subject = bench.shared(kind)
    cost_us: list[float] = []
    for chunks in (CHUNKS_FEW, CHUNKS_MANY):
        cpu_s = subject.cpu_s()
        behaviour = Behaviour(chunks=chunks, interval_s=CHUNK_INTERVAL_S)
        stagger_s = CHUNK_INTERVAL_S * chunks
        seen = await _run(bench, kind, behaviour, connections=CHUNK_STREAMS, stagger_s=stagger_s, conversation=streams)
        cost_us.append((subject.cpu_s() - cpu_s) / seen.calls * US)
    return {"chunk": (cost_us[1] - cost_us[0]) / (CHUNKS_MANY - CHUNKS_FEW)}


async def live_streams(bench: Bench, kind: Kind) -> Sample:
    """100 streams of 50 chunks/s, begun one after another: how late a chunk is."""
    behaviour = Behaviour(chunks=LIVE_CHUNKS, interval_s=LIVE_INTERVAL_S)
    stagger_s = LIVE_STREAMS * LIVE_INTERVAL_S / 10
    seen = await _run(
        bench, kind, behaviour, seconds=0.0, connections=LIVE_STREAMS, stagger_s=stagger_s, conversation=streams
    )
    return {"late": us(seen.late_ns, 99)}


async def mib_warm(bench: Bench, kind: Kind) -> Sample:
    """A conversation of 1 MiB that grows: each body repeats the one before, and one turn is new."""
    long = partial(Conversation, messages=MIB_MESSAGES, message_bytes=MIB_MESSAGE_BYTES, turns_max=10**6)
    seen = await _run(bench, kind, Behaviour(), conversation=long)
    return {"mib_warm": us(seen.call_ns[1:], 50)}


async def mib_first(bench: Bench, kind: Kind) -> Sample:
    """Bodies of 1 MiB that share nothing."""
    new = partial(Conversation, messages=MIB_MESSAGES, message_bytes=MIB_MESSAGE_BYTES, turns_max=1)
    seen = await _run(bench, kind, Behaviour(), conversation=new)
    return {"mib_first": us(seen.call_ns, 50)}


async def _run(
    bench: Bench,
    kind: Kind,
    behaviour: Behaviour,
    *,
    seconds: float | None = None,
    connections: int = 1,
    stagger_s: float = 0.0,
    conversation: Callable[[], Conversation] = Conversation,
) -> Load:
    """Load the shared subject of a kind."""
    subject = bench.shared(kind)
    bench.upstream.behave(behaviour)
    loading = load.run_for(
        subject.target,
        bench.seconds if seconds is None else seconds,
        connections=connections,
        stagger_s=stagger_s,
        conversation=conversation,
    )
    return await bench.counted(subject, loading)


def us(times_ns: Sequence[int], percent: int) -> float:
    """Return a percentile of nanoseconds, in microseconds."""
    ordered = sorted(times_ns)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] / 1000


EXPERIMENTS = (
    Experiment(("p50_1",), SUBJECTS, one_connection),
    Experiment(("p50_16", "p99_16"), SUBJECTS, sixteen_connections),
    Experiment(("cpu", "calls", "rss_load"), PROXIES, saturated),
    Experiment(("ttft",), SUBJECTS, first_token),
    Experiment(("chunk",), PROXIES, chunk_cpu),
    Experiment(("late",), ("naive", "ours"), live_streams),
    Experiment(("mib_warm",), OWN, mib_warm),
    Experiment(("mib_first",), OWN, mib_first),
)
