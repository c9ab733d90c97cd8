"""Where the proxy listens for forwarders: on an address of this machine that containers reach, never on all of them."""

from __future__ import annotations

import sys

import pytest

from agent_preflight.docker.portal import HOST_NAME, ForwarderAddress, forwarder_address, interface_address
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from tests.support.scripted_engine import Fail, ScriptedEngine

NAME = "com.docker.network.bridge.name"


@pytest.mark.wire
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no engine has its bridge on this machine")
async def test_an_engine_beside_us_is_met_at_its_bridge(client: Engine, scripted: ScriptedEngine) -> None:
    scripted.state.networks["bridge"]["Options"] = {NAME: "lo"}
    place = await forwarder_address(client)
    assert place == ForwarderAddress("127.0.0.1%lo", "127.0.0.1")
    assert "from the interface lo to 127.0.0.1" in place.advice


@pytest.mark.wire
@pytest.mark.parametrize("options", [{NAME: "nosuchbridge0"}, {NAME: "x" * 100}])
async def test_an_engine_in_a_virtual_machine_is_met_at_our_loopback(
    client: Engine, scripted: ScriptedEngine, options: dict[str, str]
) -> None:
    scripted.state.networks["bridge"]["Options"] = options
    place = await forwarder_address(client)
    assert place == ForwarderAddress("127.0.0.1", HOST_NAME)
    assert "connect to 127.0.0.1" in place.advice


@pytest.mark.wire
@pytest.mark.parametrize("options", [{}, None])
async def test_a_bridge_that_tells_no_name_has_the_usual_one(
    client: Engine, scripted: ScriptedEngine, options: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("agent_preflight.docker.portal.interface_address", asked.append)
    scripted.state.networks["bridge"]["Options"] = options
    await forwarder_address(client)
    assert asked == ["docker0"]


@pytest.mark.wire
async def test_an_engine_without_a_bridge_is_an_error(client: Engine, scripted: ScriptedEngine) -> None:
    scripted.script("GET /networks/bridge", Fail(404, "network bridge not found"))
    with pytest.raises(DockerError, match="looking at the network bridge: network bridge not found") as caught:
        await forwarder_address(client)
    assert caught.value.failure is Failure.GONE


def test_an_interface_that_is_not_here_has_no_address() -> None:
    assert interface_address("nosuchbridge0") is None
