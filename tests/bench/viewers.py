"""`python -m tests.bench.viewers`: what ten viewers of `ui` cost the proxy whose run of 16 trials they look at.

The same load, by turns without a viewer and with ten that follow the run's page: CPU of the proxy for each call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from tests.bench import machine
from tests.bench.load import run_for
from tests.bench.subjects import PROGRAM, Kind, Running, constant_upstream, ended, start_ours
from tests.bench.upstream import MODEL, Behaviour

TRIALS, VIEWERS = 16, 10
ANSWER_S = 0.1
"""The upstream takes so long for an answer: about 150 calls a second."""
OVERHEAD_MAX = 0.05


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one turn: calls, CPU of the proxy for each (µs), and what the viewers got."""

    calls: int
    cpu_us: float
    updates: int = 0
    ui_cpu_s: float = 0.0


@contextmanager
def served_ui(runs: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the pages of a folder as a user does; yields the address and the process."""
    command = [str(PROGRAM), "ui", "--no-open", "--runs-dir", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    with ended(process):
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        yield next(word for word in line.split() if word.startswith("http://")), psutil.Process(process.pid)


async def turn(ours: Running, seconds: float, address: str = "", viewers: int = 0) -> Cost:
    """Load the proxy while so many viewers look, and return what a call cost."""
    updates = 0

    async def look(http: aiohttp.ClientSession) -> None:
        nonlocal updates
        async with http.get(f"{address}run/data/live?since=0") as stream:
            async for line in stream.content:
                updates += line.startswith(b"data:")

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(read_bufsize=2**24))
        looking = [asyncio.ensure_future(look(http)) for _ in range(viewers)]
        await asyncio.sleep(0.5)
        cpu_s = ours.cpu_s()
        load = await run_for(ours.target, seconds, connections=TRIALS, stagger_s=ANSWER_S)
        cpu_s = ours.cpu_s() - cpu_s
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
    return Cost(load.calls, cpu_s / load.calls * 1e6, updates)


def measure(rounds: int, seconds: float, folder: Path) -> list[tuple[Cost, Cost]]:
    """Return, for each round, what a call cost without viewers and with them."""
    aliases = [f"trial-{number}" for number in range(TRIALS)]
    trials = [{"alias": alias, "model_id": MODEL, "budget_usd": "1000", "key_name": alias} for alias in aliases]
    with ExitStack() as stack:
        stack.enter_context(machine.load_core())
        upstream = stack.enter_context(constant_upstream())
        upstream.behave(Behaviour(delay_s=ANSWER_S))
        kind = Kind("ours", lambda place, up: start_ours(place, up, dict.fromkeys(aliases, "1000")))
        ours = stack.enter_context(kind.serving(folder / "proxy", upstream))
        (folder / "proxy" / "data" / "plan.json").write_text(json.dumps({"trials": trials}))  # which makes it a run
        address, ui = stack.enter_context(served_ui(folder / "proxy"))
        asyncio.run(turn(ours, seconds, address, VIEWERS))  # warms up
        costs = []
        for number in range(rounds):
            pair: dict[int, Cost] = {}
            for viewers in (0, VIEWERS) if number % 2 else (VIEWERS, 0):
                before_s = sum(ui.cpu_times()[:2])
                cost = asyncio.run(turn(ours, seconds, address, viewers))
                spent_s = sum(ui.cpu_times()[:2]) - before_s
                pair[viewers] = Cost(cost.calls, cost.cpu_us, cost.updates, spent_s)
            costs.append((pair[0], pair[VIEWERS]))
    return costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.viewers")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ap-viewers-") as folder:
        begun_s = time.monotonic()
        costs = measure(given.rounds, given.seconds, Path(folder))
    alone, viewed = [statistics.median(cost.cpu_us for cost in side) for side in zip(*costs, strict=True)]
    ratio = statistics.median(viewed.cpu_us / alone.cpu_us for alone, viewed in costs)
    updates = sum(viewed.updates for _, viewed in costs)
    ui_share = sum(viewed.ui_cpu_s for _, viewed in costs) / (given.rounds * given.seconds)
    print(
        f"{given.rounds} rounds, {sum(a.calls + b.calls for a, b in costs)} calls, {time.monotonic() - begun_s:.0f} s"
    )
    print(f"CPU of the proxy for each call: {alone:.0f} µs alone, {viewed:.0f} µs with {VIEWERS} viewers")
    print(f"median of the rounds' ratios {ratio:.3f}, must be below {1 + OVERHEAD_MAX}")
    print(f"{updates} updates; `ui` used {ui_share:.1%} of a core while they looked")


if __name__ == "__main__":
    main()
