"""What agents in real containers reach because it was named, and what they do not; the proxy is the real one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import run_multi
from agent_preflight.engine.client import Engine
from agent_preflight.environment.authority import Authority, write_bundle
from agent_preflight.environment.network_access import network_env, read_network_access
from agent_preflight.environment.variables import BUNDLE_NAME, CONTAINER_BUNDLE, TLS_PORT, TRUST_VARIABLES
from openrouter_sim import Simulator
from preflight_proxy.app import RunningProxy, running
from preflight_proxy.base.control_messages import GateSpec, TlsSpec
from preflight_proxy.core.money import limit_pusd
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.ports import EgressRules
from tests.agent_preflight.docker.conftest import BASE, MakeSandbox, MakeSpec, read_all
from tests.support.docker_program import ENGINE
from tests.support.proxy_world import MODEL, quick_config
from tests.support.tls import new_authority

pytestmark = pytest.mark.docker

FETCH = """
import json, os, sys, urllib.error, urllib.request

def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError as error:
        return repr(error)

def own_key(base_url):
    head = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"]}
    return fetched(urllib.request.Request(base_url + "/key", headers=head))[:8]
"""


@pytest.fixture
def site() -> Iterator[int]:
    """The port of a web server of this machine, on loopback alone, that says which path it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"site {self.path}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def told(
    simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """A function that runs Python text as an agent; returns what it printed as an event, and its summary."""
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)

    def run(text: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        events: list[dict[str, Any]] = []
        (result,) = run_multi(
            [(MODEL, "agent")],
            image_name=options.pop("image_name", BASE),
            admin_key=simulator.admin_key,
            or_key=simulator.inference_key,
            budget_usd=0.05,
            runs_dir=tmp_path,
            skip_preflight=True,
            container_args=["python3", "-c", FETCH + text],
            on_event=events.append,
            log_fn=lambda *_: None,
            **options,
        )
        assert result.error is None, result
        return next(event for event in events if event.get("type") == "told"), result.preflight

    return run


@pytest.mark.parametrize("network", ["sealed", "bridge"])
def test_a_service_of_this_machine_is_reached_by_its_name_alone(
    told: Callable[..., Any], site: int, network: str
) -> None:
    text = f"""
print(json.dumps({{
    "type": "told",
    "named": fetched("http://los:{site}/a"),
    "variable": fetched("http://" + os.environ["PREFLIGHT_SERVICE_LOS"] + "/b"),
    "other port": fetched("http://web:81/c"),
    "unnamed": fetched("http://other:{site}/d"),
}}))
"""
    services = {"los": f"127.0.0.1:{site}", "web:81": f"127.0.0.1:{site}"}
    found, summary = told(text, network=network, services=services)
    assert (found["named"], found["variable"], found["other port"]) == ("site /a", "site /b", "site /c")
    assert "URLError" in found["unnamed"]
    assert summary["traffic"]["los"]["connections"] == 2
    assert summary["traffic"]["web:81"]["connections"] == 1
    assert summary["traffic"]["los"]["sent_bytes"] > 0


def test_a_sealed_agents_egress_leads_to_no_unnamed_place_and_to_none_of_this_machines_own(
    told: Callable[..., Any], site: int
) -> None:
    text = f"""
del os.environ["no_proxy"], os.environ["NO_PROXY"]
print(json.dumps({{
    "type": "told",
    "unnamed": fetched("http://example.org/"),
    "own": fetched("http://localhost.localdomain:{site}/"),
    "loopback": fetched("http://127.0.0.2:{site}/"),
}}))
"""
    egress = [f"localhost.localdomain:{site}", f"127.0.0.2:{site}"]
    found, summary = told(text, network="sealed", egress=egress)
    assert found["unnamed"].startswith("403 This trial may not reach example.org:80")
    assert found["own"].startswith(("403", "502"))
    assert "not public" in found["loopback"]
    assert summary["traffic"]["egress"] == {"connections": 0, "refused": 3, "sent_bytes": 0, "received_bytes": 0}


PROXIED = [f"{kind}_proxy".upper() for kind in ("http", "https", "all", "ftp")]
PROXIED += [name.lower() for name in PROXIED]
NOWHERE = "http://127.0.0.1:9"
IMAGE = "agent-preflight-test:proxied"


@pytest.fixture
async def proxied_image(base_image: str, engine: Engine) -> AsyncIterator[str]:
    """An image whose variables name a proxy that nobody serves."""
    lines = [f"FROM {base_image}", *(f"ENV {name}={NOWHERE}" for name in PROXIED), "ENV no_proxy=image.example"]
    archive, text = io.BytesIO(), "\n".join(lines).encode()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    await engine.build(IMAGE, archive.getvalue(), {})
    yield IMAGE
    await asyncio.to_thread(subprocess.run, [ENGINE, "rmi", "-f", IMAGE], capture_output=True, check=True)


@pytest.mark.parametrize("gate", ["shared", "portable"])
@pytest.mark.parametrize("network", ["sealed", "bridge"])
def test_no_proxy_of_image_user_or_client_stands_between_an_agent_and_its_gate(
    told: Callable[..., Any],
    proxied_image: str,
    site: int,
    network: str,
    gate: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = {"proxies": {"default": dict.fromkeys(("httpProxy", "httpsProxy", "noProxy"), "http://client.example:1")}}
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "config.json").write_text(json.dumps(client))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "client"))
    text = f"""
print(json.dumps({{
    "type": "told",
    "base url": own_key(os.environ["OPENROUTER_BASE_URL"]),
    "openrouter.ai": own_key("https://openrouter.ai/api/v1"),
    "service": fetched("http://los:{site}/a"),
    "elsewhere": fetched("http://elsewhere.example/"),
    "env": dict(os.environ),
}}))
"""
    services, user = {"los": f"127.0.0.1:{site}"}, {"https_proxy": NOWHERE, "NO_PROXY": "mine.example"}
    own = {"env": user} if network == "bridge" else {}
    found, _ = told(text, image_name=proxied_image, network=network, gate=gate, services=services, **own)
    assert (found["base url"], found["openrouter.ai"], found["service"]) == ('{"data":', '{"data":', "site /a")
    assert not any("client.example" in value for value in found["env"].values())
    if network == "sealed":
        assert {found["env"][name] for name in (*PROXIED, "NO_PROXY", "no_proxy")} == {""}
    else:
        assert "Connection refused" in found["elsewhere"]
        assert {found["env"][name] for name in PROXIED} == {NOWHERE}
        past = "127.0.0.1,localhost,openrouter.ai,los,mine.example,image.example"
        assert found["env"]["NO_PROXY"] == found["env"]["no_proxy"] == past


def test_a_users_own_proxy_in_a_sealed_trial_wins_with_a_warning(told: Callable[..., Any], base_image: str) -> None:
    text = """
base = own_key(os.environ["OPENROUTER_BASE_URL"])
print(json.dumps({"type": "told", "base": base, "proxy": os.environ["HTTP_PROXY"]}))
"""
    found, summary = told(text, network="sealed", env={"HTTP_PROXY": NOWHERE})
    assert (found["base"], found["proxy"]) == ('{"data":', NOWHERE)
    assert any(warning.startswith("HTTP_PROXY in env is yours") for warning in summary["warnings"])


# The proxy in this process


@contextlib.asynccontextmanager
async def proxied(
    data: Path, gate: GateSpec, sim: Simulator, rules: EgressRules | None = None
) -> AsyncIterator[RunningProxy]:
    """A proxy with an account for the trial whose gate this is; later ones take it over as after a restart."""
    config = quick_config(data, sim.base_url, listen=None)
    async with running(config, egress_rules=rules) as proxy:
        await proxy.accounts.open("agent", account_spec(gate, sim))
        yield proxy


def account_spec(gate: GateSpec, sim: Simulator) -> Any:
    from preflight_proxy.base.control_messages import AccountSpec

    return AccountSpec(
        limit_pusd=limit_pusd("0.05"), token=Secret("pf-test-token"), key=Secret(sim.inference_key), gate=gate
    )


async def handed_over(proxy: RunningProxy) -> None:
    async with asyncio.timeout(30):
        while proxy.ledger.account_state("agent").gate != "ready":
            await asyncio.sleep(0.01)


async def to_site(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_a_named_place_is_reached_through_the_gate_both_ways_of_asking(
    make_sandbox: MakeSandbox, make_spec: MakeSpec, tmp_path: Path, site: int
) -> None:
    reach = read_network_access(None, [f"named.example:{site}"], "sealed")
    assert reach.way_out is not None
    socket = make_spec().gate_socket
    gate = GateSpec(str(socket), reach.ports, egress=reach.way_out)
    url = f"http://named.example:{site}"
    command = (
        f"curl -sS --max-time 20 -p {url}/tunnel && echo && curl -sS --max-time 20 {url}/whole && echo "
        f"&& python3 -c 'import urllib.request as u; print(u.urlopen(\"{url}/python\", timeout=20).read().decode())'"
    )
    sandbox = make_sandbox(
        "sh", "-c", command, env=network_env(reach, {}, in_container=True, network="sealed"), ports=reach.ports
    )
    rules = EgressRules(to_site, lambda address: address == "127.0.0.1")
    async with Simulator() as sim, proxied(tmp_path, gate, sim, rules) as proxy:
        await sandbox.create()
        await handed_over(proxy)
        outcome = await read_all(await sandbox.start())
        assert outcome.stdout.split("\n") == ["site /tunnel", "site /whole", "site /python", ""], outcome.stderr
        assert proxy.ledger.account_state("agent").traffic["egress"].connections == 3


CALLS = f"""
import json, sys, urllib.request
for line in sys.stdin:
    request = urllib.request.Request(
        "https://openrouter.ai/api/v1/chat/completions",
        json.dumps({{"model": "{MODEL}", "messages": [{{"role": "user", "content": line}}], "max_tokens": 8}}).encode(),
        {{"Authorization": "Bearer pf-test-token", "Content-Type": "application/json"}},
    )
    print(json.load(urllib.request.urlopen(request, timeout=30))["usage"]["cost"] > 0, flush=True)
"""


def _gate(socket: Path | None, authority: Authority) -> GateSpec:
    return GateSpec(str(socket), (8788, TLS_PORT), tls=TlsSpec(TLS_PORT, authority.certificate, authority.key))


async def test_a_proxy_that_comes_back_is_openrouter_still(
    make_sandbox: MakeSandbox, make_spec: MakeSpec, tmp_path: Path
) -> None:
    """An agent's roots are read once, so the proxy after a restart must have the same certificate; a call meanwhile waits."""
    authority, spec = new_authority(), make_spec()
    gate = _gate(spec.gate_socket, authority)
    write_bundle(spec.budget_dir / BUNDLE_NAME, authority)
    sandbox = make_sandbox(
        "python3", "-u", "-c", CALLS, env=dict.fromkeys(TRUST_VARIABLES, CONTAINER_BUNDLE), ports=(8788, TLS_PORT)
    )
    async with Simulator() as sim, asyncio.timeout(60):
        async with proxied(tmp_path, gate, sim) as proxy:
            await sandbox.create()
            await handed_over(proxy)
            agent = await sandbox.start()
            agent.stdin.write(b"first\n")
            assert await agent.stdout.readline() == b"True\n"
        agent.stdin.write(b"nobody is there\n")
        async with proxied(tmp_path, gate, sim):
            assert await agent.stdout.readline() == b"True\n"
        agent.stdin.close()
