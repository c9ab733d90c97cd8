"""Portable gates in real containers: as closed as the others, the same ledger, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import RunResult, run_multi
from agent_preflight.docker.gates import forwarder_address
from agent_preflight.docker.sandbox import DockerSandbox
from agent_preflight.docker.sweep import sweep
from agent_preflight.engine.client import Engine
from agent_preflight.environment.network_access import NetworkAccess, read_network_access
from agent_preflight.sandboxes.interface import ForwarderTarget
from openrouter_sim import Simulator
from openrouter_sim.calls.scenario import Scenario
from preflight_proxy.app import running
from preflight_proxy.base.config import Config
from preflight_proxy.base.control_messages import AccountSpec, GateSpec
from preflight_proxy.core.gate_proof import NONCE_CHARS
from preflight_proxy.core.money import limit_pusd
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.portable import ForwarderListener
from preflight_proxy.gates.ports import EgressRules
from preflight_proxy.ledger.account_state import Traffic
from tests.agent_preflight.docker.conftest import BASE, MakeSandbox, MakeSpec, read_all
from tests.support.docker_program import ENGINE, output
from tests.support.gate_places import echo, place

pytestmark = pytest.mark.docker

MODEL = "openai/gpt-4.1-nano"
ASK = f"""
import json, os, urllib.request
def ask(base, text="Say OK"):
    body = {{"model": {MODEL!r}, "messages": [{{"role": "user", "content": text}}], "max_tokens": 8}}
    head = {{"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}}
    request = urllib.request.Request(base + "/chat/completions", json.dumps(body).encode(), head)
    return json.load(urllib.request.urlopen(request, timeout=60))["usage"]["cost"]
def tell(**what):
    print(json.dumps({{"type": "told", **what}}), flush=True)
"""
BOTH_WAYS = """
tell(plain=ask(os.environ["OPENROUTER_BASE_URL"]), tls=ask("https://openrouter.ai/api/v1"))
"""

Told = dict[str, list[dict[str, Any]]]
RunAgents = Callable[..., tuple[dict[str, RunResult], Told]]


@pytest.fixture
def run_agents(simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunAgents:
    """A function that runs Python text as agents behind portable gates; returns results and what they told, by alias."""
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)

    def run(text: str, *aliases: str, **options: Any) -> tuple[dict[str, RunResult], Told]:
        told: Told = {alias: [] for alias in aliases}
        on_event = options.pop("on_event", lambda event: None)

        def heard(event: dict[str, Any]) -> None:
            if event.get("type") == "told":
                told[event["alias"]].append(event)
                on_event(event)

        results = run_multi(
            [(MODEL, alias) for alias in aliases],
            image_name=BASE,
            admin_key=simulator.admin_key,
            or_key=simulator.inference_key,
            budget_usd=0.05,
            runs_dir=tmp_path / "runs",
            run_id="r",
            skip_preflight=True,
            container_args={
                alias: ["python3", "-c", ASK.replace('"told",', f'"told", "alias": {alias!r},') + text]
                for alias in aliases
            },
            on_event=heard,
            log_fn=lambda *_: None,
            **{"gate": "portable", "network": "sealed", **options},
        )
        return {result.alias: result for result in results}, told

    return run


def left_of(run_dir: Path) -> list[str]:
    """What the engine has of a run: containers, networks, volumes."""
    lists = (["ps", "-aq"], ["network", "ls", "-q"], ["volume", "ls", "-q"])
    label = f"label=agent-preflight.dir={run_dir}"
    return [
        name
        for command in lists
        for name in subprocess.run(
            [ENGINE, *command, "--filter", label], capture_output=True, text=True, check=True
        ).stdout.split()
    ]


@pytest.mark.parametrize("network", ["sealed", "bridge"])
def test_a_field_behind_portable_gates_is_billed_to_the_last_pico(
    run_agents: RunAgents, simulator: Simulator, tmp_path: Path, network: str
) -> None:
    results, told = run_agents(BOTH_WAYS, "one", "two", network=network)
    assert [result.error for result in results.values()] == [None, None]
    for alias, result in results.items():
        (event,) = told[alias]
        assert event["plain"] > 0
        assert event["tls"] > 0
        assert result.preflight["calls"] == 2
        assert set(result.preflight["cleanup"].values()) == {"ok"}, result.preflight["cleanup"]
    assert sum(Decimal(result.preflight["posted_usd"]) for result in results.values()) == simulator.bill().total_usd
    assert left_of(tmp_path / "runs" / "r") == []


async def test_the_portal_is_reached_by_the_bridge_alone(base_image: str, engine: Engine) -> None:
    """Another network of this machine stands for its neighbours: both have a route to the bridge's address."""
    (listen_host, host), portal = await forwarder_address(engine), ForwarderListener()
    assert "%" in listen_host, "the engine is not beside us"
    _, port = portal.listen(listen_host, 0)
    other = f"ap-test-{secrets.token_hex(6)}"
    connect = f"import socket; print(len(socket.create_connection(({host!r}, {port}), 5).recv(64)))"
    run = (ENGINE, "run", "--rm", "--pull", "never")

    def reached_from(network: str) -> str:
        command = [*run, "--network", network, base_image, "python3", "-c", connect]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    await asyncio.to_thread(output, "network", "create", other)
    try:
        found = await asyncio.gather(*(asyncio.to_thread(reached_from, network) for network in ("bridge", other)))
    finally:
        await asyncio.to_thread(output, "network", "rm", other)
        await portal.close()
    assert found == [f"{NONCE_CHARS}\n", ""]


def test_a_service_is_reached_through_a_portable_gate(run_agents: RunAgents, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "word").write_text("found")
    command = ["python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(tmp_path / "served")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().split("port ")[1].split()[0])
        text = 'tell(word=urllib.request.urlopen("http://los:3000/word", timeout=20).read().decode())'
        results, told = run_agents(text, "agent", services={"los:3000": f"127.0.0.1:{port}"})
        server.kill()
    assert results["agent"].error is None
    assert told["agent"][0]["word"] == "found"
    assert results["agent"].preflight["traffic"]["los:3000"]["connections"] == 1


def strike_forwarder(run_dir: Path, verb: str) -> None:
    """Have the engine kill, or pause, a run's forwarder."""
    filters = ["label=agent-preflight.role=forwarder", f"label=agent-preflight.dir={run_dir}"]
    listing = [ENGINE, "ps", "-q", *(part for each in filters for part in ("--filter", each))]
    found = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run([ENGINE, verb, *found], capture_output=True, check=True)


def test_a_killed_forwarder_freezes_and_ends_its_trial(
    run_agents: RunAgents, simulator: Simulator, tmp_path: Path
) -> None:
    run_dir = tmp_path / "runs" / "r"
    text = "import time\ntell(cost=ask(os.environ['OPENROUTER_BASE_URL']))\ntime.sleep(600)"
    results, _ = run_agents(text, "agent", on_event=lambda _: strike_forwarder(run_dir, "kill"))
    assert "gate lost" in str(results["agent"].error)
    assert Decimal(results["agent"].preflight["posted_usd"]) == simulator.bill().total_usd > 0
    assert left_of(run_dir) == []


def test_a_paused_forwarder_ends_its_trial_whose_running_call_is_posted(
    run_agents: RunAgents, simulator: Simulator, tmp_path: Path
) -> None:
    """One answer is on its way when nothing moves any more, and the next call does not even arrive.

    The answer would take more than ten seconds, so that a slow engine pauses in time.
    """
    run_dir = tmp_path / "runs" / "r"
    simulator.scenario = Scenario(tokens_per_s=4.0)
    text = """
body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 60, "stream": True}
head = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}
url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
answer = urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), head))
tell(began=answer.readline().decode())
answer.read()
tell(ended=True)
""".replace("MODEL", repr(MODEL))
    results, told = run_agents(text, "agent", on_event=lambda _: strike_forwarder(run_dir, "pause"))
    assert "gate lost" in str(results["agent"].error)
    assert ["began" in event for event in told["agent"]] == [True]
    summary = results["agent"].preflight
    assert Decimal(summary["posted_usd"]) == simulator.bill().total_usd > 0
    assert set(summary["cleanup"].values()) == {"ok"}
    assert left_of(run_dir) == []


RELAYED = """
import socket, sys
def said_back(connection, text):
    connection.sendall(text)
    connection.shutdown(socket.SHUT_WR)
    return len(b"".join(iter(lambda: connection.recv(65536), b"")))
def tunnel(place):
    connection = socket.create_connection(("127.0.0.1", 8789), 20)
    connection.sendall(f"CONNECT {place} HTTP/1.1\\r\\nHost: {place}\\r\\n\\r\\n".encode())
    status = b""
    while not status.endswith(b"\\r\\n\\r\\n") and (more := connection.recv(1)):
        status += more
    return status.split()[1].decode(), connection
service, place = sys.argv[1:]
print(said_back(socket.create_connection(("los", int(service)), 20), b"s" * 300_000))
status, connection = tunnel(place)
print(status, said_back(connection, b"e" * 200_000))
print(tunnel("unnamed.example:443")[0])
"""


async def test_services_and_egress_of_a_sealed_trial_behind_a_portable_gate_are_counted_to_the_byte(
    make_sandbox: MakeSandbox, base_image: str, tmp_path: Path, engine: Engine
) -> None:
    async with Simulator() as sim, place(echo) as service, place(echo) as site:
        reach = read_network_access({"los": f"127.0.0.1:{service}"}, [f"named.example:{site}"], "sealed")
        (listen_host, host), trial_pass = await forwarder_address(engine), Secret("p" * 43)
        rules = EgressRules(to_loopback, lambda address: address == "127.0.0.1")
        config = Config(data=str(tmp_path), upstream=sim.base_url, portal=f"{listen_host}:0")
        async with running(config, egress_rules=rules) as proxy, asyncio.timeout(60):
            assert proxy.portal is not None
            await proxy.accounts.open("agent", account_of(sim, reach, trial_pass))
            portal = ForwarderTarget(host, int(proxy.portal.rpartition(":")[2]), trial_pass)
            command = ("python3", "-c", RELAYED, str(service), f"named.example:{site}")
            sandbox = make_sandbox(*command, gate_socket=None, portal=portal, services=reach.names, ports=reach.ports)
            await sandbox.create()
            while proxy.ledger.account_state("agent").gate != "ready":
                await asyncio.sleep(0.01)
            outcome = await read_all(await sandbox.start())
            traffic = proxy.ledger.account_state("agent").traffic
            await sandbox.close()
    assert outcome.stdout.split("\n") == ["300000", "200 200000", "403", ""], outcome.stderr
    assert traffic["los"] == Traffic(connections=1, sent_bytes=300_000, received_bytes=300_000)
    assert traffic["egress"] == Traffic(connections=1, refused=1, sent_bytes=200_000, received_bytes=200_000)


def account_of(sim: Simulator, reach: NetworkAccess, trial_pass: Secret) -> AccountSpec:
    assert reach.way_out is not None
    gate = GateSpec(
        None,
        reach.ports,
        services=reach.openings,
        egress=reach.way_out,
        portal_pass=trial_pass,
    )
    return AccountSpec(
        limit_pusd=limit_pusd("0.05"), token=Secret("pf-test-token"), key=Secret(sim.inference_key), gate=gate
    )


async def to_loopback(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_a_sweep_leaves_nothing_of_a_portable_trial(
    make_spec: MakeSpec, gate_image: str, tmp_path: Path, engine: Engine
) -> None:
    (tmp_path / "lock").touch()
    key = ForwarderTarget("192.0.2.1", 9, Secret("p" * 43))
    sandbox = DockerSandbox(make_spec("sleep", "600", gate_socket=None, portal=key), engine, gate_image)
    await sandbox.create()
    await sandbox.start()
    swept = await sweep(engine, below=[tmp_path])
    assert [thing.role for thing in swept.removed] == ["agent", "gate", "forwarder", "volume"]
    assert (swept.left, swept.live, swept.unreadable) == ((), (), ())
    assert left_of(tmp_path) == []
    assert set((await sandbox.close()).values()) == {"ok"}


def test_a_proxy_that_is_killed_comes_back_and_the_call_meanwhile_waits(
    run_agents: RunAgents, simulator: Simulator, tmp_path: Path
) -> None:
    """The agent goes on once it sees that the proxy was killed; its next call comes while none is there."""
    seen = tmp_path / "seen"
    seen.mkdir()

    def kill_proxy(event: dict[str, Any]) -> None:
        if event["number"] == 1:
            proxy = os.pidfd_open(proxy_of(tmp_path / "runs" / "r"))
            signal.pidfd_send_signal(proxy, signal.SIGKILL)
            select.select([proxy], [], [])  # it takes calls until it is dead
            os.close(proxy)
            (seen / "killed").touch()

    text = """
import time
for number in range(1, 4):
    tell(number=number, cost=ask(os.environ["OPENROUTER_BASE_URL"]))
    while not os.path.exists("/seen/killed"):
        time.sleep(0.01)
"""
    results, told = run_agents(text, "agent", on_event=kill_proxy, mounts=[(str(seen), "/seen", "ro")])
    assert results["agent"].error is None
    assert [event["number"] for event in told["agent"]] == [1, 2, 3]
    assert Decimal(results["agent"].preflight["posted_usd"]) == simulator.bill().total_usd
    assert left_of(tmp_path / "runs" / "r") == []


def proxy_of(run_dir: Path) -> int:
    """The process id of a run's proxy."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if "preflight_proxy" in (process / "cmdline").read_text() and str(run_dir) in {
                str(opened.readlink().parent) for opened in (process / "fd").iterdir()
            }:
                return int(process.name)
    raise AssertionError("the run has no proxy")
