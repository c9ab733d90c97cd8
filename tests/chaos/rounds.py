"""A round of chaos: a run of six trials, whose parts are killed at random times, and a sweep. Then nothing may be left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

from agent_preflight.events import EventLogger
from agent_preflight.options.settings import GateChoice
from agent_preflight.sweeping import SweepScope, sweep
from openrouter_sim import Simulator
from openrouter_sim.calls.scenario import Scenario
from preflight_proxy.core.evidence.aftermath import EvidenceTimes
from preflight_proxy.core.secret import Secret
from tests.chaos import victim
from tests.chaos.ledger_check import ledger_problems
from tests.chaos.strikes import Strike, containers, draw, fall, networks_and_volumes, processes
from tests.chaos.victim import CLOCKS
from tests.support.engine_relay import EngineRelay

MODEL = "openai/gpt-4.1-nano"
ALIASES = ("a", "b", "c", "d", "e", "f")
BUDGET_USD = "0.02"
LAST_STRIKE_S = 7.5
TRIAL_S_MAX = 8.0
RUNNER_S_MAX = 90.0
SETTLE_S = 20.0
AGENT = """
import json, os, time, urllib.request
from concurrent.futures import ThreadPoolExecutor
until = time.monotonic() + 5
def call(n):
    body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hello " * 50}], "max_tokens": 200}
    body["stream"] = n % 2 == 0
    request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=30).read()
    except OSError:
        time.sleep(0.2)
    print(json.dumps({"type": "called"}), flush=True)
def worker(n):
    while time.monotonic() < until: call(n)
with ThreadPoolExecutor(4) as pool: list(pool.map(worker, range(4)))
"""


def slow_upstream() -> Scenario:
    """Return an upstream whose calls take about half a second, so that every strike finds some in flight."""
    return Scenario(tokens_per_s=150.0, first_token_s=0.1, generation_delay_s=0.2)


@dataclass(slots=True)
class Outcome:
    """The result of a round.

    Attributes:
        hit: The strikes that hit something.
        problems: What is left, or differs from the bill; empty if nothing is wrong.
        gone_s: For each trial that its runner ended: seconds from the decision to the verified removal of its container.
        doubts: Accounts whose ledger has more than was billed.
        calls: Calls that upstream billed.
    """

    hit: list[Strike] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    gone_s: list[float] = field(default_factory=list)
    doubts: int = 0
    calls: int = 0
    took_s: float = 0.0


async def play(seed: int, folder: Path, image: str, gate: GateChoice = "auto") -> Outcome:
    """Run one round in a folder, with gates of this kind."""
    random, outcome, began_s = Random(seed), Outcome(), time.monotonic()
    mark, runs_dir = f"CHAOS_ROUND={os.getpid()}-{seed}", folder.resolve() / "runs"
    strikes = draw(random, LAST_STRIKE_S, portable=gate == "portable")
    async with Simulator(slow_upstream(), seed=seed) as simulator:
        with EngineRelay(runs_dir.with_name("e.sock")) as relay:
            runner = await asyncio.to_thread(_start, simulator, relay, runs_dir, image, gate, mark)
            await asyncio.to_thread(_strike, runner, strikes, relay, runs_dir, random, outcome)
        clocks = EvidenceTimes(CLOCKS["call_s_max"], CLOCKS["key_usage_lag_s"])
        scope = SweepScope(runs_dir, Secret(simulator.admin_key), simulator.base_url, settle_s=SETTLE_S, clocks=clocks)
        swept = await sweep(scope)
        if not swept.verified:
            outcome.problems.append(f"the sweep left {swept.left}, {swept.trouble}")
        bill = simulator.bill()
    outcome.problems += await asyncio.to_thread(lambda: list(_left(runs_dir, mark)))
    for run_dir in runs_dir.iterdir() if runs_dir.exists() else ():
        found, outcome.doubts = ledger_problems(run_dir, bill)
        outcome.problems += [*found, *_summary_problems(run_dir)]
        outcome.gone_s += [gone_s for alias in ALIASES if (gone_s := _gone_s(run_dir / alias)) is not None]
    outcome.problems += [
        f"sub-key {key.name} is left"
        for key in bill.keys.values()
        if key.name.startswith("agent-preflight:") and not key.deleted
    ]
    outcome.calls = sum(len(key.generations) for key in bill.keys.values())
    outcome.took_s = time.monotonic() - began_s
    return outcome


def _start(
    simulator: Simulator, relay: EngineRelay, runs_dir: Path, image: str, gate: GateChoice, mark: str
) -> subprocess.Popen[str]:
    given = {
        "models": [(MODEL, alias) for alias in ALIASES],
        "image_name": image,
        "admin_key": simulator.admin_key,
        "or_key": "",
        "budget_usd": BUDGET_USD,
        "runs_dir": str(runs_dir),
        "network": "sealed",
        "gate": gate,
        "timeout_s": TRIAL_S_MAX,
        "container_args": ["python3", "-c", AGENT],
        "skip_preflight": True,
        "openrouter_base_url": simulator.base_url,
    }
    name, _, value = mark.partition("=")
    runner = victim.start(_log(runs_dir), {name: value, "PREFLIGHT_GATE_BASE": image, "DOCKER_HOST": relay.url})
    assert runner.stdin is not None
    with runner.stdin:
        runner.stdin.write(json.dumps(given))
    return runner


def _log(runs_dir: Path) -> Path:
    return runs_dir.with_name("runner.log")


def _strike(
    runner: subprocess.Popen[str],
    strikes: list[Strike],
    relay: EngineRelay,
    runs_dir: Path,
    random: Random,
    outcome: Outcome,
) -> None:
    """Do each strike at its time, then wait for the end of the runner."""
    began_s = time.monotonic()
    for strike in strikes:
        time.sleep(max(began_s + strike.at_s - time.monotonic(), 0.0))
        if runner.poll() is None and fall(strike, runner.pid, relay, runs_dir, random):
            outcome.hit.append(strike)
    try:
        if runner.wait(RUNNER_S_MAX) not in (0, -signal.SIGKILL) and not outcome.hit:
            last_words = _log(runs_dir).read_text()[-300:]
            outcome.problems.append(f"the runner ended with {runner.returncode}: {last_words}")
    except subprocess.TimeoutExpired:
        outcome.problems.append(f"the runner has not ended after {RUNNER_S_MAX:.0f} s")
        runner.kill()
        runner.wait()


def _left(runs_dir: Path, mark: str) -> Iterator[str]:
    """Yield what is still there after half a minute, in which processes and containers can end."""
    until_s = time.monotonic() + 30.0
    while (found := [*_things(runs_dir, mark)]) and time.monotonic() < until_s:
        time.sleep(0.2)
    yield from found


def _things(runs_dir: Path, mark: str) -> Iterator[str]:
    yield from (f"container {name} is left" for name in containers(runs_dir))
    yield from (f"network or volume {name} is left" for name in networks_and_volumes(runs_dir))
    yield from (f"process is left: {words[:200]}" for words in processes(mark))
    yield from (f"{path} is left" for path in runs_dir.glob("*/control.json"))


def _summary_problems(run_dir: Path) -> Iterator[str]:
    for alias in ALIASES:
        folder = run_dir / alias
        if not folder.is_dir():
            continue
        try:
            cleanup = json.loads((folder / "summary.json").read_text())["preflight"]["cleanup"]
        except (OSError, ValueError, KeyError) as exc:
            yield f"{folder} has no whole summary: {exc!r}"
        else:
            yield from (f"{alias}: {step} {result}" for step, result in cleanup.items() if result == "failed")


def _gone_s(folder: Path) -> float | None:
    """Return the seconds from the decision to the verified end of the container; None if the runner was killed before."""
    ended = gone = None
    for record in EventLogger.read(folder / "events.jsonl"):
        if record["source"] != "preflight":
            continue
        if record["type"] == "preflight_ending":
            ended = datetime.fromisoformat(record["timestamp"])
        if record["type"] == "preflight_cleanup" and record["step"] == "kill" and record["result"] == "ok":
            gone = datetime.fromisoformat(record["timestamp"])
    return None if ended is None or gone is None else (gone - ended).total_seconds()
