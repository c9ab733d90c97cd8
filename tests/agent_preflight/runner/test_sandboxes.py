"""Which sandbox stands behind a word; and a whole run in containers."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.docker.images import ensure_image, image_exists
from agent_preflight.process import ProcessSandbox
from agent_preflight.runner.api import run_multi
from agent_preflight.runner.arguments import request_of, with_defaults
from agent_preflight.runner.loop import Stop, run_blocking
from agent_preflight.runner.run import run_field
from agent_preflight.runner.sandboxes import sandbox_maker
from tests.agent_preflight.runner.conftest import Field
from tests.engine import ENGINE

BASE = "local/python:base"


async def test_a_process_needs_nothing_first() -> None:
    assert await sandbox_maker("process") is ProcessSandbox


@pytest.fixture
def demo_image(monkeypatch: pytest.MonkeyPatch) -> str:
    """Our demo agents' image, on a base that is here."""
    if not image_exists(BASE):
        pytest.skip(f"the base image {BASE} is not present")
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", BASE)
    return asyncio.run(ensure_image("demo", base=BASE))


def containers(run_dir: Path) -> list[str]:
    """Return the ids of all containers of a run, running or not."""
    command = [ENGINE, "ps", "-aq", "--filter", f"label=agent-preflight.dir={run_dir}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def options(trials: Field, image: str, *kinds: str, **more: Any) -> dict[str, Any]:
    shared = trials.options({}, sandbox="docker", command=None, network="sealed", budget_usd=0.25, run_id="r")
    return {**shared, "image_name": image, "container_args": {kind: [kind] for kind in kinds}, **more}


@pytest.mark.docker
def test_agents_in_sealed_containers_spend_through_the_gate_and_hold_no_real_key(
    trials: Field, demo_image: str
) -> None:
    inspected: list[str] = []

    def look_inside(event: dict[str, Any]) -> None:
        if event["type"] == "agent_start":
            command = [ENGINE, "inspect", *containers(trials.runs_dir / "r")]
            inspected.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    models = [("openai/gpt-4.1-nano", "thrifty"), ("openai/gpt-4.1-nano", "greedy")]
    results = run_multi(models, **options(trials, demo_image, "thrifty", "greedy", on_event=look_inside))
    assert [result.error for result in results] == [None, None]
    assert [result.preflight["calls"] > 0 for result in results] == [True, True]
    assert inspected
    assert all("sk-or-" not in text for text in inspected)
    assert '"NetworkMode": "none"' in inspected[0]
    assert containers(trials.runs_dir / "r") == []
    (summary,) = [json.loads((trials.runs_dir / "r" / "greedy" / "summary.json").read_text())]
    assert set(summary["preflight"]["cleanup"].values()) == {"ok"}


@pytest.mark.docker
def test_an_interrupted_run_leaves_no_container_and_no_key(trials: Field, demo_image: str) -> None:
    stop = Stop()
    given = options(trials, demo_image, "idle", on_event=lambda event: stop.press())
    request = request_of(with_defaults(run_multi, {"models": [("openai/gpt-4.1-nano", "idle")], **given}))
    finished = run_blocking(lambda stop: run_field(request, stop), stop)
    assert [result.error for result in finished.results] == ["interrupted"]
    assert containers(finished.run_dir) == []
