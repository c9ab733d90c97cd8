"""Where the proxy listens for forwarders: on an address of this machine that containers reach, never on all of them."""

from __future__ import annotations

import sys

import pytest

from agent_preflight.docker.cli import Docker
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.portal import HOST_NAME, PortalPlace, interface_address, portal_place
from tests.agent_preflight.docker.conftest import Scripted

NAMED = """'network inspect bridge'*) echo '{"com.docker.network.bridge.name":"%s"}';;"""


@pytest.mark.wire
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no engine has its bridge on this machine")
async def test_an_engine_beside_us_is_met_at_its_bridge(scripted: Scripted) -> None:
    place = await portal_place(Docker(str(scripted(NAMED % "lo").path)))
    assert place == PortalPlace("127.0.0.1%lo", "127.0.0.1")
    assert "from the interface lo to 127.0.0.1" in place.advice


@pytest.mark.wire
async def test_an_engine_in_a_virtual_machine_is_met_at_our_loopback(scripted: Scripted) -> None:
    place = await portal_place(Docker(str(scripted(NAMED % "nosuchbridge0").path)))
    assert place == PortalPlace("127.0.0.1", HOST_NAME)
    assert "connect to 127.0.0.1" in place.advice


@pytest.mark.wire
async def test_an_engine_without_a_bridge_is_an_error(scripted: Scripted) -> None:
    with pytest.raises(DockerError, match="bridge network"):
        await portal_place(Docker(str(scripted("network*) echo 'No such network: bridge' >&2; exit 1;;").path)))


def test_an_interface_that_is_not_here_has_no_address() -> None:
    assert interface_address("nosuchbridge0") is None
