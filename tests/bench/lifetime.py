"""Experiments on subjects of their own: starts, memory, ledgers of many calls, TLS, and how long the loop is held."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.bench import load, machine
from tests.bench.call_path import CONNECTIONS, MIB_MESSAGE_BYTES, MIB_MESSAGES, US, streams
from tests.bench.certificate import make_certificate
from tests.bench.load import Conversation
from tests.bench.rounds import Bench, Experiment, Sample
from tests.bench.subjects import (
    ACCOUNT,
    BUDGET_USD,
    NAIVE,
    OURS,
    ROOT,
    Kind,
    Running,
    constant_upstream,
    ended,
    start_ours,
)
from tests.bench.upstream import Behaviour

BOTH = (NAIVE.name, OURS.name)
JUST_OURS = (OURS.name,)
OPEN_STREAMS, IDLE_CONNECTIONS = 200, 4000
OPEN_S = 6.0
GROWTH_CALLS, GROWTH_CALLS_MORE = 5000, 15_000
FILL_S_MAX = 3600
ACCOUNTS = 256
HOLD_CALLS = 5
BODIES_32_MIB = 32 * 2**20 - 2**17
"""A little less than a proxy of ours takes."""


async def cold_start(bench: Bench, kind: Kind) -> Sample:
    """From the start of a process to its first answer, in a new folder; and its memory then."""
    bench.upstream.behave(Behaviour())
    began_s = time.monotonic()
    with kind.serving(bench.new_folder(), bench.upstream) as running:
        await load.run_for(running.target, 0.0)
        return {"cold": time.monotonic() - began_s, "rss_idle": running.rss_mib()}


async def memory_of_open(bench: Bench, kind: Kind) -> Sample:
    """Memory while streams are open and many connections idle."""
    bench.upstream.behave(Behaviour(chunks=40, interval_s=0.25))
    with kind.serving(bench.new_folder(), bench.upstream) as running:
        async with AsyncExitStack() as stack:
            for _ in range(IDLE_CONNECTIONS):
                stack.callback((await load.connect(running.target)).close)
            calling = asyncio.ensure_future(
                load.run_for(running.target, 0.0, connections=OPEN_STREAMS, conversation=streams)
            )
            await asyncio.sleep(OPEN_S)
            found = {"rss_open": running.rss_mib()}
            await calling
    return found


async def growth(bench: Bench, kind: Kind) -> Sample:
    """Memory after 5,000 calls, and how much it has grown 15,000 calls later."""
    bench.upstream.behave(Behaviour())
    with kind.serving(bench.new_folder(), bench.upstream) as running:
        first_mib = await _after(running, GROWTH_CALLS)
        later_mib = await _after(running, GROWTH_CALLS_MORE)
    return {"rss_5000": first_mib, "rss_grown": later_mib - first_mib}


async def _after(running: Running, calls: int) -> float:
    await load.run_for(running.target, 1e9, connections=CONNECTIONS, calls_max=calls)
    return running.rss_mib()


async def start_on(calls: int, figure: str, bench: Bench, kind: Kind) -> Sample:
    """How long a start takes on the ledger of so many calls."""
    with kind.serving(with_ledger(bench, kind, calls), bench.upstream) as running:
        return {figure: running.start_s}


async def cpu_on(calls: int, figure: str, bench: Bench, kind: Kind) -> Sample:
    """CPU per call on the ledger of so many calls."""
    with kind.serving(with_ledger(bench, kind, calls), bench.upstream) as running:
        return {figure: await _cpu_us(bench, running)}


async def cpu_of_accounts(bench: Bench, _kind: Kind) -> Sample:
    """CPU per call of a proxy with 256 accounts, of which 16 call."""
    accounts = {f"{ACCOUNT}-{number}": BUDGET_USD for number in range(ACCOUNTS)}
    kind = Kind(OURS.name, partial(start_ours, accounts=accounts))
    with kind.serving(bench.new_folder(), bench.upstream) as running:
        return {"cpu_256": await _cpu_us(bench, running)}


async def tls(bench: Bench, kind: Kind) -> Sample:
    """CPU per call where the upstream is reached by TLS."""
    certificate = make_certificate(bench.new_folder())
    with constant_upstream(certificate) as upstream, kind.serving(bench.new_folder(), upstream) as running:
        return {"tls": await _cpu_us(bench, running)}


async def _cpu_us(bench: Bench, running: Running) -> float:
    """Return the CPU of a call when 16 agents call as fast as it goes, after as much time to warm up."""
    bench.upstream.behave(Behaviour())
    await load.run_for(running.target, bench.seconds / 2, connections=CONNECTIONS)
    cpu_s = running.cpu_s()
    seen = await load.run_for(running.target, bench.seconds, connections=CONNECTIONS)
    return (running.cpu_s() - cpu_s) / seen.calls * US


def with_ledger(bench: Bench, kind: Kind, calls: int) -> Path:
    """Return a folder in which a proxy has made so many calls; each is filled once, and what later starts add stays."""
    folder = bench.folder / f"ledger-{calls}"
    if folder.exists():
        return folder
    with kind.serving(folder, bench.upstream):
        pass
    with machine.subject_core():
        command = [sys.executable, "-m", "tests.bench.fill", str(folder / "data"), str(calls)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=FILL_S_MAX)
    with kind.serving(folder, bench.upstream):
        pass  # it completes costs.jsonl, which is not part of what is measured
    return folder


async def hold(figure: str, conversation: Callable[[], Conversation], bench: Bench, kind: Kind) -> Sample:
    """The longest time that the proxy's loop answers nobody else while it takes a body that it has never seen.

    The median of a few bodies: on one, the machine itself may have been busy.
    """
    running = bench.shared(kind)
    bench.upstream.behave(Behaviour())
    longest_ms: list[float] = []
    with _asking_health(running.target.port) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        for _ in range(HOLD_CALLS):
            body = conversation().next_body()
            for take in (False, True):
                if take:
                    await bench.counted(running, load.run_bodies(running.target, [body]))
                process.stdin.write(b"\n")
                process.stdin.flush()
                longest_ns = int(await asyncio.to_thread(process.stdout.readline))
            longest_ms.append(longest_ns / 1e6)
    return {figure: statistics.median(longest_ms)}


@contextmanager
def _asking_health(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `ping.py`, which ends when its input does."""
    command = [sys.executable, str(Path(__file__).with_name("ping.py")), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with ended(process):
        yield process


def _hold(figure: str, messages: int, message_bytes: int) -> Experiment:
    conversation = partial(Conversation, messages=messages, message_bytes=message_bytes)
    return Experiment((figure,), BOTH, partial(hold, figure, conversation), rounds_max=5)


EXPERIMENTS = (
    Experiment(("cold", "rss_idle"), BOTH, cold_start),
    Experiment(("tls",), BOTH, tls, rounds_max=5),
    Experiment(("rss_open",), BOTH, memory_of_open, rounds_max=1),
    Experiment(("rss_5000", "rss_grown"), BOTH, growth, rounds_max=1),
    Experiment(("cpu_10",), JUST_OURS, partial(cpu_on, 10, "cpu_10"), rounds_max=5),
    Experiment(("cpu_1e3",), JUST_OURS, partial(cpu_on, 10**3, "cpu_1e3"), rounds_max=5),
    Experiment(("cpu_1e5",), JUST_OURS, partial(cpu_on, 10**5, "cpu_1e5"), rounds_max=5),
    Experiment(("cpu_256",), JUST_OURS, cpu_of_accounts, rounds_max=5),
    Experiment(("start_1e5",), JUST_OURS, partial(start_on, 10**5, "start_1e5"), rounds_max=5),
    Experiment(("start_1e6",), JUST_OURS, partial(start_on, 10**6, "start_1e6"), rounds_max=5),
    _hold("hold_mib", MIB_MESSAGES, MIB_MESSAGE_BYTES),
    _hold("hold_24k", 24_000, 0),
    _hold("hold_32mib", BODIES_32_MIB // 2**15, 2**15),
)
