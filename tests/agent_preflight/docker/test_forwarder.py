"""What makes a gate portable, by the calls it makes: no pass in their lines, everything labelled, removed in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_preflight.docker.container_config import TrialLabels
from agent_preflight.docker.forwarder import Forwarder
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.sandboxes.interface import ForwarderTarget
from preflight_proxy.core.secret import Secret
from tests.support.scripted_engine import DROP, LOST, USUAL, Answer, Fail, ScriptedEngine, Text
from tests.support.short_engine_limits import no_pauses

pytestmark = pytest.mark.wire

PASS = "p" * 43
TAG = TrialLabels("run-1", Path("/runs/run-1"), "alpha", "boot:1:2", "2026-12-02T00:00:00+00:00", "abcdef")
BOTH_OK = {"forwarder": "ok", "volume": "ok"}
REMOVE_VOLUME = "DELETE /volumes/*"


@pytest.fixture
def forwarder(client: Engine, monkeypatch: pytest.MonkeyPatch) -> Forwarder:
    """One that is not open."""
    no_pauses(monkeypatch)
    return Forwarder(client, TAG, ForwarderTarget("172.17.0.1", 4711, Secret(PASS)))


async def test_the_pass_is_in_the_environment_and_nowhere_else(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    await forwarder.open("sha256:gate", (8788, 443))
    made = scripted.container(TAG.name("forwarder"))
    assert made.config["Env"] == [f"PREFLIGHT_PASS={PASS}"]
    assert made.config["Entrypoint"][-5:] == ["/run/preflight-gate/gate.sock", "172.17.0.1", "4711", "8788", "443"]
    assert made.running
    assert str(scripted.bodies).count(PASS) == 1
    assert PASS not in str([scripted.calls, made.config["Labels"], repr(forwarder), vars(forwarder)])


async def test_its_volume_is_there_first_with_the_labels_that_a_sweep_looks_for(
    forwarder: Forwarder, scripted: ScriptedEngine
) -> None:
    await forwarder.open("sha256:gate", (8788,))
    assert [call.partition("?")[0].split("/")[1] for call in scripted.calls] == ["volumes", "containers", "containers"]
    assert scripted.state.volume(TAG.name("volume"))["Labels"] == TAG.labels("volume")


async def test_it_goes_before_its_volume(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    await forwarder.open("sha256:gate", (8788,))
    assert await forwarder.close() == BOTH_OK
    removed = [call.split("/")[1] for call in scripted.calls if call.startswith("DELETE")]
    assert removed == ["containers", "volumes", "volumes"]
    assert not scripted.state.containers
    assert not scripted.state.volumes


async def test_one_that_was_never_opened_has_nothing_to_close(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    assert await forwarder.close() == BOTH_OK
    assert scripted.calls == []


async def test_a_volume_that_stays_is_a_failed_step(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    await forwarder.open("sha256:gate", (8788,))
    scripted.script(REMOVE_VOLUME, Text(204, ""))
    assert await forwarder.close() == {"forwarder": "ok", "volume": "failed"}


@pytest.mark.parametrize("answer", [DROP, Fail(500, "no such volume"), Fail(409, "volume is in use"), LOST])
async def test_a_volume_of_which_the_engine_says_nothing_is_unverified_and_a_second_close_finishes(
    forwarder: Forwarder, scripted: ScriptedEngine, answer: Answer
) -> None:
    await forwarder.open("sha256:gate", (8788,))
    scripted.script(REMOVE_VOLUME, answer)
    assert await forwarder.close() == {"forwarder": "ok", "volume": "unverified"}
    scripted.unscript(REMOVE_VOLUME)
    assert await forwarder.close() == BOTH_OK
    assert not scripted.state.volumes


async def test_an_engine_that_refuses_the_volume_says_why_and_no_container_is_made(
    forwarder: Forwarder, scripted: ScriptedEngine
) -> None:
    scripted.script("POST /volumes/create", Fail(500, "no space left on device"))
    with pytest.raises(DockerError, match=r"^making the gate's volume: no space left on device$"):
        await forwarder.open("sha256:gate", (8788,))
    assert not scripted.state.containers
    assert await forwarder.close() == BOTH_OK


@pytest.mark.parametrize("call", ["POST /volumes/create", "POST /containers/create", "POST /containers/*/start"])
async def test_what_was_made_before_an_answer_was_lost_is_removed(
    forwarder: Forwarder, scripted: ScriptedEngine, call: str
) -> None:
    scripted.script(call, LOST, USUAL)
    with pytest.raises(DockerError, match="closed the connection"):
        await forwarder.open("sha256:gate", (8788,))
    assert scripted.state.volumes
    assert await forwarder.close() == BOTH_OK
    assert not scripted.state.containers
    assert not scripted.state.volumes
