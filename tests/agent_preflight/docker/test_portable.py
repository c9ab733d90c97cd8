"""Portable gates in real containers: as closed as the others, the same books, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import select
import signal
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import RunResult, run_multi
from agent_preflight.docker.argv import FORWARDER_SOCKET
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.container import DockerSandbox
from agent_preflight.docker.portal import portal_place
from agent_preflight.docker.sweep import sweep
from agent_preflight.sandbox import PortalKey
from openrouter_sim import Simulator
from preflight_proxy.core.portal_proof import NONCE_CHARS
from preflight_proxy.core.secret import Secret
from preflight_proxy.portal import Portal
from tests.agent_preflight.docker.conftest import BASE, MakeSpec
from tests.agent_preflight.docker.test_seal import PROBE

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
            ["docker", *command, "--filter", label], capture_output=True, text=True, check=True
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


def test_an_agent_behind_a_portable_gate_finds_no_way_out(run_agents: RunAgents) -> None:
    text = PROBE.replace("print(json.dumps({", "tell(found=({")
    results, told = run_agents(text, "probe")
    assert results["probe"].error is None
    found = told["probe"][0]["found"]
    assert found["interfaces"] == ["lo"]
    assert found["routes"] == []
    for way in ("internet", "docker host", "metadata", "ipv6"):
        assert found[way] in {"ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"}, way
    assert found["docker dns"] == "ECONNREFUSED"
    assert found["dns"] not in (None, "reached")
    assert not found["gate files"]
    assert set(found["unix sockets"]) <= {FORWARDER_SOCKET}


async def test_the_portal_is_reached_by_the_bridge_alone(base_image: str, tmp_path: Path) -> None:
    """Another network of this machine stands for its neighbours: both have a route to the bridge's address."""
    place, portal = await portal_place(Docker()), Portal()
    assert "%" in place.listen_host, "the engine is not beside us"
    _, port = portal.listen(place.listen_host, 0)
    other = f"ap-test-{secrets.token_hex(6)}"
    connect = f"import socket; print(len(socket.create_connection(({place.host!r}, {port}), 5).recv(64)))"
    run = ("docker", "run", "--rm", "--pull", "never")

    def reached_from(network: str) -> str:
        command = [*run, "--network", network, base_image, "python3", "-c", connect]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout

    docker = Docker()
    await docker.must("making another network", "network", "create", other)
    try:
        found = await asyncio.gather(*(asyncio.to_thread(reached_from, network) for network in ("bridge", other)))
    finally:
        await docker.must("removing it", "network", "rm", other)
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


def test_a_killed_forwarder_freezes_and_ends_its_trial(
    run_agents: RunAgents, simulator: Simulator, tmp_path: Path
) -> None:
    run_dir = tmp_path / "runs" / "r"

    def kill_forwarder(_: dict[str, Any]) -> None:
        filters = [
            "--filter",
            "label=agent-preflight.role=forwarder",
            "--filter",
            f"label=agent-preflight.dir={run_dir}",
        ]
        found = subprocess.run(
            ["docker", "ps", "-q", *filters], capture_output=True, text=True, check=True
        ).stdout.split()
        subprocess.run(["docker", "kill", *found], capture_output=True, check=True)

    text = "import time\ntell(cost=ask(os.environ['OPENROUTER_BASE_URL']))\ntime.sleep(600)"
    results, _ = run_agents(text, "agent", on_event=kill_forwarder)
    assert "gate lost" in str(results["agent"].error)
    assert Decimal(results["agent"].preflight["posted_usd"]) == simulator.bill().total_usd > 0
    assert left_of(run_dir) == []


async def test_a_sweep_leaves_nothing_of_a_portable_trial(make_spec: MakeSpec, gate_image: str, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    key = PortalKey("192.0.2.1", 9, Secret("p" * 43))
    sandbox = DockerSandbox(make_spec("sleep", "600", gate_socket=None, portal=key), gate_image=gate_image)
    await sandbox.create()
    await sandbox.start()
    swept = await sweep(below=tmp_path)
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
