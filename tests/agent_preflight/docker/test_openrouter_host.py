"""Agents with https://openrouter.ai built in, in real containers, by the whole path (C10)."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_preflight import run_multi
from agent_preflight.environment.variables import CONTAINER_BUNDLE
from openrouter_sim import Simulator
from tests.agent_preflight.docker.conftest import BASE
from tests.support.node_program import node_in_container

pytestmark = pytest.mark.docker

URL = "https://openrouter.ai/api/v1/chat/completions"
MODEL = "openai/gpt-4.1-nano"
BODY = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Say OK"}], "max_tokens": 8})
COMMON = f"""
import json, os, subprocess
URL, BODY, KEY = {URL!r}, {BODY!r}, os.environ["OPENROUTER_API_KEY"]
HEADERS = {{"Authorization": "Bearer " + KEY, "Content-Type": "application/json"}}

def tell(client, call):
    try:
        answer = call()
        print(json.dumps({{"type": "client", "client": client, "cost": json.loads(answer)["usage"]["cost"]}}), flush=True)
    except Exception as error:
        print(json.dumps({{"type": "client", "client": client, "error": repr(error)[:500]}}), flush=True)
"""
PYTHON = """
import http.client, ssl, urllib.request

def with_urllib():
    return urllib.request.urlopen(urllib.request.Request(URL, BODY.encode(), HEADERS), timeout=20).read()

def with_requests():
    import requests
    return requests.post(URL, data=BODY, headers=HEADERS, timeout=20).text

def with_httpx():
    import httpx
    return httpx.post(URL, content=BODY, headers=HEADERS, timeout=20).text

def with_curl():
    head = [part for name, value in HEADERS.items() for part in ("-H", name + ": " + value)]
    return subprocess.run(["curl", "-sS", "--max-time", "20", *head, "-d", BODY, URL], capture_output=True, check=True).stdout

for name, call in list(globals().items()):
    if name.startswith("with_"):
        tell(name.removeprefix("with_"), call)
"""
NODE = """
script = '''
fetch(process.argv[1], {method: "POST", body: process.argv[2],
      headers: {"Authorization": "Bearer " + process.env.OPENROUTER_API_KEY, "Content-Type": "application/json"}})
  .then(answer => answer.text()).then(console.log, error => { console.error(error); process.exit(1) })
'''
tell("fetch", lambda: subprocess.run([*NODE, "-e", script, URL, BODY], capture_output=True, check=True).stdout)
"""

Told = dict[str, dict[str, Any]]
RunAgent = Callable[..., Told]


@pytest.fixture
def run_agent(
    simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Told]:
    """A function that runs Python text as an agent and returns what each client that it tried was told."""
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)

    def run(text: str, **options: Any) -> Told:
        told: Told = {}

        def on_event(event: dict[str, Any]) -> None:
            if event.get("type") == "client":
                told[event["client"]] = event

        (result,) = run_multi(
            [(MODEL, "agent")],
            image_name=BASE,
            admin_key=simulator.admin_key,
            or_key=simulator.inference_key,
            budget_usd=0.05,
            runs_dir=tmp_path / "runs",
            skip_preflight=True,
            container_args=["python3", "-c", COMMON + text],
            on_event=on_event,
            log_fn=lambda *_: None,
            **options,
        )
        assert result.error is None, result
        told["summary"] = result.preflight
        assert Decimal(result.preflight["posted_usd"]) == simulator.bill().total_usd
        return told

    return run


def site_packages() -> str:
    return str(Path(httpx.__file__).parent.parent)


@pytest.mark.parametrize("network", ["sealed", "bridge"])
def test_python_and_curl_reach_the_proxy_at_the_name_that_they_know(run_agent: RunAgent, network: str) -> None:
    told = run_agent(
        PYTHON, network=network, mounts=[(site_packages(), "/packages", "ro")], env={"PYTHONPATH": "/packages"}
    )
    summary = told.pop("summary")
    assert {client: event.get("error") for client, event in told.items()} == dict.fromkeys(
        ("urllib", "requests", "httpx", "curl")
    )
    assert all(event["cost"] > 0 for event in told.values())
    assert summary["calls"] == len(told)
    assert summary["warnings"] == []


@pytest.mark.parametrize("network", ["sealed", "bridge"])
def test_node_reaches_the_proxy_at_the_name_that_it_knows(run_agent: RunAgent, network: str, tmp_path: Path) -> None:
    node = node_in_container(BASE, tmp_path / "libraries")
    told = run_agent(f"NODE = {node.command!r}\n{NODE}", network=network, mounts=list(node.mounts))
    assert told["fetch"].get("error") is None
    assert told["summary"]["calls"] == 1


def test_a_users_own_roots_win_and_the_summary_says_so(run_agent: RunAgent) -> None:
    told = run_agent(PYTHON, network="sealed", env={"CURL_CA_BUNDLE": "/etc/ssl/certs/none.pem"})
    assert "error" in told["curl"]
    assert told["urllib"]["cost"] > 0
    assert "CURL_CA_BUNDLE is yours" in told["summary"]["warnings"][0]
    assert CONTAINER_BUNDLE in told["summary"]["warnings"][0]
