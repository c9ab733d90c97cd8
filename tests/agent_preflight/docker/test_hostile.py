"""Agents in sealed containers that do their worst to the machine, by the whole path; all of it ends, and ends soon."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import run_multi
from agent_preflight.events import LINE_BYTES_MAX, EventLogger
from agent_preflight.models import RunResult
from openrouter_sim import Simulator
from tests.agent_preflight.docker.conftest import BASE, containers_of

pytestmark = pytest.mark.docker

MODEL = "openai/gpt-4.1-nano"
READY = "import json, os, signal, sys, time\nprint(json.dumps({'type': 'ready'}), flush=True)\n"
RunAgent = Callable[..., tuple[RunResult, Path]]


@pytest.fixture
def run_agent(simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunAgent:
    """A function that runs Python text as a sealed agent; its result and its folder."""
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)

    def run(text: str, **options: Any) -> tuple[RunResult, Path]:
        (result,) = run_multi(
            [(MODEL, "a")],
            image_name=BASE,
            admin_key=simulator.admin_key,
            or_key=simulator.inference_key,
            budget_usd=0.05,
            runs_dir=tmp_path / "runs",
            run_id="hostile",
            network="sealed",
            container_args=["python3", "-c", READY + text],
            skip_preflight=True,
            log_fn=lambda *_: None,
            **options,
        )
        run_dir = tmp_path / "runs" / "hostile"
        assert containers_of(run_dir) == []
        assert set(result.preflight["cleanup"].values()) == {"ok"}, result.preflight
        return result, run_dir / "a"

    return run


def gone_s(folder: Path) -> float:
    """From the decision to the agent's container seen to be gone."""
    moments = {}
    for event in EventLogger.read(folder / "events.jsonl"):
        if event["source"] == "preflight":
            moments[event["type"], event.get("step")] = datetime.fromisoformat(event["timestamp"])
    return (moments["preflight_cleanup", "kill"] - moments["preflight_ending", None]).total_seconds()


TERM = {
    "heeds it": "time.sleep(60)",
    "ignores it": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: time.sleep(60)",
}


@pytest.mark.parametrize("agent", TERM)
def test_an_ended_agent_is_seen_to_be_gone(run_agent: RunAgent, agent: str) -> None:
    result, folder = run_agent(TERM[agent], timeout_s=1.5)
    assert result.error == "ejected: time limit"
    print(f"decision to gone: {gone_s(folder):.2f} s")
    assert gone_s(folder) > 0


def test_a_fork_bomb_ends_with_its_trial(run_agent: RunAgent) -> None:
    text = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.5)
"""
    result, _ = run_agent(text, timeout_s=2, docker_args=["--pids-limit=128"])
    assert result.error == "ejected: time limit"


def test_a_flood_from_a_container_is_taken_and_ended(run_agent: RunAgent) -> None:
    text = """
for _ in range(400): os.write(1, b'x' * 65536)
os.write(1, b'\\n{"type": "flooded"}\\n')
while True: os.write(1, b'x' * 65536)
"""

    def end(event: dict[str, Any]) -> None:
        if event["type"] == "flooded":
            raise ValueError("enough")

    result, folder = run_agent(text, on_event=end)
    assert result.error == "enough"
    assert set(result.preflight["caps_hit"]) == {"line_bytes"}
    assert (folder / "events.jsonl").stat().st_size < 2 * LINE_BYTES_MAX  # what came last may be a line that is kept


def test_what_lies_in_a_mounted_directory_of_output_is_never_opened(
    run_agent: RunAgent, tmp_path: Path, simulator: Simulator
) -> None:
    output = tmp_path / "output"
    output.mkdir(mode=0o777)
    text = """
os.chdir("/workspace/output")
os.unlink("budget.txt")
os.mkfifo("budget.txt"); os.mkfifo("summary.json")
os.symlink("/etc/shadow", "link"); os.symlink("/proc/self/mem", "mem")
for device in (0o20666, 0o60666):
    try: os.mknod("device", device, os.makedev(1, 1)); sys.exit("made a device")
    except PermissionError: pass
os.truncate(os.open("sparse", os.O_CREAT | os.O_WRONLY), 1 << 40)
for n in range(2000): open(f"a\\n\\x1b[31m{n}", "w").close()
print(json.dumps({"type": "agent_end"}), flush=True)
"""
    result, folder = run_agent(text, mounts=[f"{output}:/workspace/output"])
    assert result.error is None
    assert stat.S_ISFIFO(os.lstat(output / "budget.txt").st_mode)
    assert (folder / "budget" / "budget.txt").read_text().startswith("Budget: $0.05")
