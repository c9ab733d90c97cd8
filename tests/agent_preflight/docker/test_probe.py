"""Two agents of one run that conspire, in sealed trials by the whole path, and what the host shows to whoever looks meanwhile."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import run_multi
from agent_preflight.runs.folder import read_control
from openrouter_sim import Simulator
from preflight_proxy.core.gate_proof import NONCE_CHARS, Side, pass_id, proof_of
from tests.agent_preflight.docker.conftest import BASE
from tests.support.docker_program import ENGINE

pytestmark = pytest.mark.docker

MODEL = "openai/gpt-4.1-nano"
PROBE = Path(__file__).parents[2] / "support" / "probe.py"
TOKEN = re.compile(rb"pf-[A-Za-z0-9_-]{20,}")


@dataclass
class Stage:
    """A run of two probes, what they told, and what could be seen of the run from outside while both ran."""

    run_dir: Path
    gate: str
    told: dict[str, dict[str, str]] = field(default_factory=dict)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    """The port of a listener on all addresses of the host."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(params=["shared", "portable"])
def stage(
    request: pytest.FixtureRequest,
    simulator: Simulator,
    base_image: str,
    tmp_path: Path,
    listening: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)
    shared = tmp_path / "shared"
    shared.mkdir()
    made = Stage(tmp_path / "runs" / "probed", request.param)
    both, lock = threading.Barrier(2, action=lambda: _look(made, shared, listening), timeout=60), threading.Lock()

    def on_event(event: dict[str, Any]) -> None:
        if event["type"] == "ready":
            both.wait()
        if event["type"] == "probe":
            with lock:
                made.told[str(len(made.told))] = event["found"]

    results = run_multi(
        [(MODEL, "a"), (MODEL, "b")],
        image_name=BASE,
        admin_key=simulator.admin_key,
        or_key=simulator.inference_key,
        budget_usd=0.05,
        runs_dir=tmp_path / "runs",
        run_id="probed",
        network="sealed",
        gate=request.param,
        mounts=[f"{shared}:/shared", f"{PROBE}:/probe.py:ro"],
        container_args={"a": ["python3", "/probe.py", "a", "b"], "b": ["python3", "/probe.py", "b", "a"]},
        skip_preflight=True,
        timeout_s=90,
        on_event=on_event,
        log_fn=lambda *_: None,
    )
    assert [result.error for result in results] == [None, None], [
        (made.run_dir / alias / "stderr.log").read_text() for alias in "ab"
    ]
    made.summaries = {result.alias: result.preflight for result in results}
    return made


def _look(stage: Stage, shared: Path, port: int) -> None:
    """Look at all that the host shows while both agents run, and tell the agents what the host knows."""
    control = read_control(stage.run_dir)
    assert control is not None
    label = ["--filter", f"label=agent-preflight.dir={stage.run_dir}"]
    ids = _output(ENGINE, "ps", "-aq", *label).decode().split()
    portable = stage.gate == "portable"
    assert len(ids) == (6 if portable else 4)
    stage.seen["docker inspect"] = _output(ENGINE, "inspect", *ids)
    stage.seen["docker events"] = _output(ENGINE, "events", "--since", "5m", "--until", "0s")
    for path in [*Path("/proc").glob("[0-9]*/cmdline"), *_of_children("environ")]:
        try:
            stage.seen[str(path)] = path.read_bytes()
        except OSError:
            continue
    sockets = [str(path) for path in control.directory.rglob("*.sock")]
    assert len(sockets) >= (1 if portable else 3)
    portals = _portals_of(json.loads(stage.seen["docker inspect"]))
    assert len(portals) == (1 if portable else 0)
    assert [_gets_with_a_wrong_pass(portal) for portal in portals] == [b""] * len(portals)
    host = {
        "run_id": "probed",
        "port": port,
        "addresses": _output("hostname", "-I").decode().split(),
        "other_container": _output(ENGINE, "ps", *label, "--format", "{{.Names}}").decode().split()[0],
        "portals": [*portals, *(("127.0.0.1", port) for _, port in portals)],
        "sockets": sockets,
        "paths": [str(stage.run_dir), str(control.directory), str(Path.home() / ".docker"), "/run/preflight-gate"],
    }
    (shared / "host.json").write_text(json.dumps(host))


def _portals_of(containers: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Where forwarders are told to connect."""
    places = {tuple(each["Args"][4:6]) for each in containers if "/forward.py" in each["Args"]}
    return [(host, int(port)) for host, port in places]


def _gets_with_a_wrong_pass(portal: tuple[str, int]) -> bytes:
    """What the portal says after its nonce to a forwarder of no trial."""
    with socket.create_connection(portal, 20) as stranger:
        theirs, ours = stranger.recv(NONCE_CHARS, socket.MSG_WAITALL).decode(), "0" * NONCE_CHARS
        proof = proof_of(Side.FORWARDER, "x" * 43, theirs, ours, 8788)
        stranger.sendall(f"AP2 {pass_id('x' * 43)} {ours} 08788 {proof}\n".encode())
        return stranger.recv(64)


def _of_children(name: str) -> list[Path]:
    """That file of every process of ours but this one, which has the keys by right."""
    parent = str(threading.main_thread().native_id)
    return [path.with_name(name) for path in Path("/proc").glob("[0-9]*/stat") if _parent_of(path) == parent]


def _parent_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace").rpartition(")")[2].split()[1]
    except OSError:
        return ""


def _output(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


def test_two_conspiring_agents_find_no_way_out_and_leave_no_secret_outside(stage: Stage, simulator: Simulator) -> None:
    assert len(stage.told) == 2
    for found in stage.told.values():
        assert (found.pop("call before"), found.pop("call after")) == ("200", "200")
        assert {name: result for name, result in found.items() if "OPEN" in result} == {}
        assert len(found) > 80
    for summary in stage.summaries.values():
        assert (summary["calls"], summary["limit_usd"]) == (2, "0.05")
        assert set(summary["cleanup"].values()) == {"ok"}
    _no_secret_shows(stage, simulator)


def _no_secret_shows(stage: Stage, simulator: Simulator) -> None:
    """No real key anywhere, and the trials' tokens nowhere but in the agents' own environment."""
    used = {request.headers["Authorization"].removeprefix("Bearer ") for request in simulator.requests}
    assert len(used) == 2
    keys = [key.encode() for key in (*used, simulator.admin_key, simulator.inference_key)]
    files = {str(path): path.read_bytes() for path in stage.run_dir.rglob("*") if path.is_file()}
    for place, content in (stage.seen | files).items():
        assert not any(key in content for key in keys), place
        assert TOKEN.search(content) is None or place == "docker inspect", place
    environments = [container["Config"]["Env"] for container in json.loads(stage.seen["docker inspect"])]
    holders = [env for env in environments if any("pf-" in entry for entry in env)]
    assert len(holders) == 2
