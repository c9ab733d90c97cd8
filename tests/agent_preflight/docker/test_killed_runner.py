"""The runner is killed at each call of the engine, as it is asked and as it is answered: a sweep leaves nothing (C15)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_preflight.docker.container import QUIET_S
from agent_preflight.docker.container_config import gate_config
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.engine.client import Engine
from agent_preflight.options.container_options import SEALED
from agent_preflight.options.settings import GateChoice
from agent_preflight.runs.folder import RunFolder, open_new, read_control
from agent_preflight.sweeping import SweepScope, sweep
from openrouter_sim import Simulator
from openrouter_sim.billing.account import Bill
from preflight_proxy.core.evidence.aftermath import EvidenceTimes
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.docker.conftest import BASE
from tests.chaos import victim
from tests.chaos.ledger_check import ledger_problems
from tests.chaos.strikes import containers, networks_and_volumes, processes
from tests.chaos.victim import CLOCKS
from tests.support.engine_relay import EngineRelay, Moment

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

MODEL = "openai/gpt-4.1-nano"
AT_ONCE = 6
RUNNER_S_MAX = 60.0
SETTLE_S = 20.0
GONE_S_MAX = 20.0
"""A proxy that was just starting when its run was swept finds its folder gone, and ends."""
SECRET = re.compile(rb"pf-[A-Za-z0-9_-]{43}|sk-or-[A-Za-z0-9_-]{8,}")
"""A trial's token, or a sub-key."""
IDENTITY = re.compile("[0-9a-f]{64}")
AGENT = """
import json, os, urllib.request
body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
request = urllib.request.Request(os.environ["OPENROUTER_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
    {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"})
print(json.dumps({"type": "called", "bytes": len(urllib.request.urlopen(request).read())}), flush=True)
"""


@dataclass(slots=True)
class Round:
    """One run of one trial, in a place of its own below `root`.

    Attributes:
        gate: The kind of gate.
        at: The call at which the runner is killed; 0 for none.
        calls: The calls of the engine that it made.
        hit: It was killed.
        billed: Calls that upstream billed.
        problems: What is left, or does not agree.
    """

    root: Path
    gate: GateChoice
    at: int = 0
    moment: Moment = "asked"
    calls: list[str] = field(default_factory=list)
    hit: bool = False
    billed: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def place(self) -> Path:
        """The folder of all that it may write, but for the temporary directory."""
        return self.root / f"{self.at}-{self.moment}"

    @property
    def runs_dir(self) -> Path:
        """Of its run."""
        return self.place / "runs"

    @property
    def mark(self) -> str:
        """In the environment of each of its processes."""
        return f"KILLED_RUNNER={self.place}"

    @property
    def title(self) -> str:
        """Which it is, for a person."""
        call = IDENTITY.sub("ID", self.calls[self.at - 1]) if self.at <= len(self.calls) else "which did not come"
        return f"killed at call {self.at}, {call}, {self.moment}"


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short private folder; `t` in it is the temporary directory of the runners, and of the sweeps here."""
    folder = Path(tempfile.mkdtemp(prefix="kr-", dir="/tmp"))
    (folder / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "t"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.usefixtures("gate_image")
@pytest.mark.parametrize(("gate", "struck"), [("auto", ""), ("portable", "/create|/start|/volumes/")])
async def test_of_a_runner_that_is_killed_at_any_call_of_the_engine_a_sweep_leaves_nothing(
    root: Path, engine: Engine, gate: GateChoice, struck: str
) -> None:
    """With portable gates at those calls alone that make something or are theirs: the others are no different."""
    async with Simulator() as simulator:
        whole = await play(Round(root, gate), simulator, engine)
        assert (whole.problems, whole.billed) == ([], 1)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(at: int, moment: Moment) -> Round:
            async with places:
                return await play(Round(root, gate, at, moment), simulator, engine)

        moments: tuple[Moment, ...] = ("asked", "answered")
        numbers = [number for number, call in enumerate(whole.calls, 1) if re.search(struck, call)]
        rounds = await asyncio.gather(*(one(at, moment) for at in numbers for moment in moments))
        for each in rounds:
            each.problems += [f"{problem}, long after the sweep" for problem in engine_left(each)]
    assert [f"{each.title}: {problem}" for each in rounds for problem in each.problems] == []
    assert [each.title for each in rounds if not each.hit and each.at < len(whole.calls)] == []
    assert max(each.billed for each in rounds) == 1
    assert [str(path) for path in (root / "t").iterdir()] == []


async def test_what_is_still_being_made_when_the_sweep_comes_is_swept_too(
    root: Path, engine: Engine, gate_image: str
) -> None:
    """The engine lists a container, or its name is taken, before it can be found by its id or removed."""
    folder = open_new(root / "runs", "dead")
    with contextlib.ExitStack() as dying:
        asking = [dying.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(8)]
        requests = [create_request(folder, number, gate_image) for number in range(len(asking))]
        for connection in asking:
            connection.connect(EngineRelay(root / "none").engine)
        for connection, request in zip(asking, requests, strict=True):
            connection.sendall(request)
    os.close(folder._lock)
    swept = await sweep(SweepScope(folder.path.parent, None), engine)
    assert swept.verified
    await asyncio.sleep(2 * QUIET_S)
    late = containers(folder.path.parent)
    await asyncio.gather(*(engine.remove(each) for each in late))
    assert late == []


def create_request(folder: RunFolder, number: int, image: str) -> bytes:
    """What a runner sends to have a trial's gate made."""
    tag = TrialLabels("dead", folder.path, f"a{number}", "owner", "", folder.short_dir.name)
    body = json.dumps(gate_config(tag, SEALED, folder.gate_socket(number), image))
    head = f"POST /v1.41/containers/create?name={tag.name('gate')} HTTP/1.1\r\nHost: engine\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def play(round_: Round, simulator: Simulator, engine: Engine) -> Round:
    """Run, kill, sweep at once; then look at what is left."""
    (round_.place / "h").mkdir(parents=True)
    clocks = EvidenceTimes(CLOCKS["call_s_max"], CLOCKS["key_usage_lag_s"])
    scope = SweepScope(
        round_.runs_dir, Secret(simulator.admin_key), simulator.base_url, settle_s=SETTLE_S, clocks=clocks
    )
    with EngineRelay(round_.place / "e.sock") as relay:
        code = await asyncio.to_thread(run, round_, simulator, relay)
        secrets = {*secrets_in(round_.place), *secrets_in(short_dir(round_))}
        swept = await sweep(scope, engine)
        round_.calls = relay.calls
    if code != (-signal.SIGKILL if round_.hit else 0):
        round_.problems.append(f"the runner ended with {code}: {(round_.place / 'runner.log').read_text()[-500:]}")
    if not swept.verified:
        round_.problems.append(f"the sweep left {swept.left}, {swept.trouble}")
    round_.problems += await asyncio.to_thread(lambda: [*left(round_)])
    round_.problems += [f"{path} holds a secret" for path in secrets | {*secrets_in(round_.place)}]
    round_.problems += money_problems(round_, simulator.bill())
    return round_


def run(round_: Round, simulator: Simulator, relay: EngineRelay) -> int:
    """Run to the end, or until it is killed; returns the runner's exit code."""
    with start(round_, relay.url) as runner:

        def kill(number: int, call: str, moment: Moment) -> None:
            if (number, moment) == (round_.at, round_.moment):
                runner.kill()
                round_.hit = True

        relay.on_call(kill)
        late = threading.Timer(RUNNER_S_MAX, runner.kill)
        late.start()
        runner.communicate(json.dumps(arguments(round_, simulator)))
        late.cancel()
        return runner.returncode


def arguments(round_: Round, simulator: Simulator) -> dict[str, object]:
    """Those of `run_multi`."""
    return {
        "models": [(MODEL, "a")],
        "image_name": BASE,
        "admin_key": simulator.admin_key,
        "or_key": "",
        "budget_usd": "0.02",
        "runs_dir": str(round_.runs_dir),
        "network": "sealed",
        "gate": round_.gate,
        "timeout_s": 30.0,
        "container_args": ["python3", "-c", AGENT],
        "skip_preflight": True,
        "openrouter_base_url": simulator.base_url,
    }


def start(round_: Round, engine: str) -> subprocess.Popen[str]:
    """A runner that begins once it has its arguments; all that it may write lies below the root."""
    name, _, value = round_.mark.partition("=")
    own = {name: value, "DOCKER_HOST": engine, "PREFLIGHT_GATE_BASE": BASE, "TMPDIR": str(round_.root / "t")}
    own |= {"HOME": str(round_.place / "h"), "XDG_STATE_HOME": str(round_.place / "h" / "state")}
    return victim.start(round_.place / "runner.log", own)


def left(round_: Round) -> Iterator[str]:
    """Say what is there after the sweep."""
    yield from engine_left(round_)
    until_s = time.monotonic() + GONE_S_MAX
    while (found := processes(round_.mark)) and time.monotonic() < until_s:
        time.sleep(0.1)
    yield from (f"process {words[:200]} is there" for words in found)
    yield from (f"{path} is there" for path in round_.runs_dir.glob("*/control.json"))


def engine_left(round_: Round) -> Iterator[str]:
    """Say what of its run is on the engine."""
    yield from (f"container {name} is there" for name in containers(round_.runs_dir))
    yield from (f"network or volume {name} is there" for name in networks_and_volumes(round_.runs_dir))


def short_dir(round_: Round) -> Path:
    """The directory of its run's sockets; one that is not there if it had not come to that."""
    control = [read_control(run_dir) for run_dir in round_.runs_dir.glob("*")]
    return next((each.directory for each in control if each is not None), round_.place / "none")


def secrets_in(folder: Path) -> Iterator[Path]:
    """Find the files that hold what only memory may hold."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and SECRET.search(path.read_bytes()):
            yield path


def money_problems(round_: Round, bill: Bill) -> Iterator[str]:
    """Say where the ledger does not agree with the bill, and which keys were not deleted."""
    for run_dir in round_.runs_dir.iterdir() if round_.runs_dir.exists() else ():
        yield from ledger_problems(run_dir, bill)[0]
        plan = run_dir / "plan.json"
        names = [trial["key_name"] for trial in json.loads(plan.read_text())["trials"]] if plan.exists() else []
        keys = [key for key in bill.keys.values() if key.name in names]
        round_.billed += sum(len(key.generations) for key in keys)
        yield from (f"sub-key {key.name} is there" for key in keys if not key.deleted)
