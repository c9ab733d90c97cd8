"""pi as it comes from npm, which has https://openrouter.ai built in, in real containers (C10)."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import RunResult, run_multi
from openrouter_sim import Simulator
from tests.agent_preflight.docker.conftest import BASE
from tests.clients.npm import PI, command
from tests.support.node_program import node_in_container

pytestmark = pytest.mark.docker

MODEL = "openai/gpt-4.1-nano"


def run_pi(simulator: Simulator, folder: Path, **options: Any) -> tuple[RunResult, list[dict[str, Any]]]:
    """Run pi with one prompt on its standard input; returns its result and its events."""
    _, script = command(PI)
    node = node_in_container(BASE, folder / "libraries")
    modules = next(parent for parent in Path(script).parents if parent.name == "node_modules")
    events: list[dict[str, Any]] = []
    (result,) = run_multi(
        [(MODEL, "pi")],
        image_name=BASE,
        admin_key=simulator.admin_key,
        or_key=simulator.inference_key,
        runs_dir=folder / "runs",
        skip_preflight=True,
        mounts=[*node.mounts, (str(modules), "/pi/node_modules", "ro")],
        container_args=[*node.command, f"/pi/node_modules/{Path(script).relative_to(modules)}", *OPTIONS],
        env={"HOME": "/tmp"},
        initial_prompt="Say OK",
        on_event=events.append,
        timeout_s=90,
        log_fn=lambda *_: None,
        **options,
    )
    return result, [event for event in events if event["type"] != "preflight_notice"]  # what pi printed


OPTIONS = ("--mode", "rpc", "--provider", "openrouter", "--model", MODEL, "--no-session")


@pytest.fixture(autouse=True)
def gate_base(base_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is built on the base image; pi needs node and npm."""
    if shutil.which("node") is None:
        pytest.skip("node is not there")
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", ["sealed", "bridge"])
def test_pi_works_unchanged(simulator: Simulator, tmp_path: Path, network: str) -> None:
    result, events = run_pi(simulator, tmp_path, network=network, budget_usd=0.05)
    assert result.error is None
    assert events[-1]["type"] == "agent_end"
    assert events[-1]["messages"][-1]["stopReason"] == "stop"
    assert result.preflight["calls"] == 1
    assert Decimal(result.preflight["posted_usd"]) == simulator.bill().total_usd > 0


@pytest.mark.timeout(600)
def test_pi_stops_where_the_budget_ends(simulator: Simulator, tmp_path: Path) -> None:
    result, events = run_pi(simulator, tmp_path, network="sealed", budget_usd="0.000001")
    last = events[-1]["messages"][-1]
    assert (events[-1]["type"], last["stopReason"]) == ("agent_end", "error")
    assert "402" in last["errorMessage"]
    assert (result.preflight["calls"], result.preflight["refused"]) == (0, 1)
    assert simulator.bill().total_usd == 0
