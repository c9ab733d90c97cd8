"""The demo: where its agents run, its simulator and the bill, and Ctrl-C. CI runs the whole of it by `make demo`."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from agent_preflight.docker.gates import try_shared_gate
from agent_preflight.docker.images import ensure_image, image_exists
from agent_preflight.engine.client import Engine
from agent_preflight.launch.demo import AGENTS, bill_sum_usd, choose_place, simulator
from agent_preflight.runs.folder import tries_dir
from preflight_proxy.core.errors import OperatingError
from tests.support.docker_program import output
from tests.support.scripted_engine import Fail, ScriptedEngine


def test_the_bill_is_summed_as_the_ledger_must_read_it() -> None:
    generations = [{"cost_usd": "0.1000000000005"}, {"cost_usd": "0.000000000002"}]
    bill = {"keys": {"h": {"generations": generations}, "other": {"generations": []}}}
    assert bill_sum_usd(bill) == Decimal("0.100000000002")


@pytest.mark.wire
async def test_the_simulator_is_a_process_that_lasts_as_long_as_it_is_needed() -> None:
    async with simulator() as simulated:
        assert await simulated.billed_usd() == 0
    with pytest.raises(httpx.ConnectError):
        await simulated.billed_usd()


@pytest.mark.wire
@pytest.mark.usefixtures("usual_signals")
def test_ctrl_c_ends_every_trial_in_order_and_exits_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent_preflight", "demo", "--sandbox", "process", "--runs-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        started = 0
        for line in demo.stdout:
            assert not line.startswith("warning: ")
            started += "started" in line
            if started == len(AGENTS):
                break
        os.kill(demo.pid, signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(60) == 130
    (run,) = tmp_path.iterdir()
    summaries = [json.loads(path.read_text()) for path in run.glob("*/summary.json")]
    assert len(summaries) == len(AGENTS)
    assert all(set(summary["preflight"]["cleanup"].values()) == {"ok"} for summary in summaries)
    assert all(summary["preflight"]["pending_usd"] == "0" for summary in summaries)


BASE = "local/python:base"


async def test_processes_are_taken_when_wished_for_and_it_is_said_what_that_means() -> None:
    place = await choose_place("process", None)
    assert (place.sandbox, place.image, place.base) == ("process", "", None)
    assert place.command[1].endswith("agent.py")
    assert "they see what you may see" in place.sentence


async def test_without_an_engine_auto_takes_processes_and_docker_is_an_error(
    no_engine: str,
) -> None:
    place = await choose_place("auto", None)
    assert place.sandbox == "process"
    assert f"no Docker engine answers at {no_engine}" in place.sentence
    with pytest.raises(OperatingError, match="no Docker engine answers"):
        await choose_place("docker", None)


@pytest.mark.docker
async def test_containers_are_taken_where_a_base_is_here_and_a_gate_can_hand_over() -> None:
    if not await asyncio.to_thread(image_exists, BASE):
        pytest.skip(f"the base image {BASE} is not present")
    place = await choose_place("docker", BASE)
    assert (place.sandbox, place.base) == ("docker", BASE)
    assert re.fullmatch("(sha256:)?[0-9a-f]{64}", place.image)


@pytest.mark.wire
async def test_what_a_handshake_makes_is_where_every_sweep_looks(docker_host: ScriptedEngine) -> None:
    docker_host.script("POST /containers/create", *[Fail(400, "no such option")] * 3)
    assert (await choose_place("auto", "me/agent")).sandbox == "process"
    made = [body["Labels"]["agent-preflight.dir"] for call, body in docker_host.bodies if "/containers/create" in call]
    assert made
    assert set(made) == {str(tries_dir() / "handshake")}
    assert list(tries_dir().iterdir()) == []


@pytest.mark.docker
async def test_a_base_that_is_not_here_is_never_pulled() -> None:
    place = await choose_place("auto", "no.such.registry/python:never")
    assert place.sandbox == "process"
    assert "`docker pull " in place.sentence
    assert "PREFLIGHT_DEMO_BASE (or --base)" in place.sentence


@pytest.mark.docker
async def test_the_handshake_leaves_no_container() -> None:
    if not await asyncio.to_thread(image_exists, BASE):
        pytest.skip(f"the base image {BASE} is not present")
    with tempfile.TemporaryDirectory(prefix="ap-") as name:
        async with Engine.open() as engine:
            await try_shared_gate(engine, await ensure_image(engine, "gate", BASE), Path(name), Path(name))
    assert output("ps", "-aq", "--filter", "label=agent-preflight.run=handshake") == ""
