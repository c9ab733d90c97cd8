"""Which kind of gate an engine can have is found by trying, and what was tried is gone afterwards."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from agent_preflight.docker.handshake import GateChoice, choose_gate, shake_hands, shake_hands_portable
from preflight_proxy.errors import OperatingError
from tests.agent_preflight.docker.conftest import Scripted
from tests.agent_preflight.docker.test_portable import left_of
from tests.engine import ENGINE


async def test_a_wish_for_gates_that_hand_over_is_not_questioned(tmp_path: Path, scripted: Scripted) -> None:
    docker = scripted("")
    assert await choose_gate("shared", "sha256:1", tmp_path, executable=str(docker.path)) == GateChoice(None)
    assert docker.calls() == []


@pytest.mark.wire
async def test_where_no_gate_works_both_reasons_are_given(tmp_path: Path, scripted: Scripted) -> None:
    docker = scripted("create*) echo no gates today >&2; exit 1;;\nnetwork*) echo no bridge either >&2; exit 1;;")
    with pytest.raises(OperatingError, match=r"no gates today.*no bridge either"):
        await choose_gate("auto", "sha256:1", tmp_path, executable=str(docker.path))


@pytest.mark.docker
async def test_a_gate_that_hands_over_is_tried_and_is_gone(gate_image: str, tmp_path: Path) -> None:
    await shake_hands(gate_image, run_dir=tmp_path)
    assert left_of(tmp_path) == []


@pytest.mark.docker
@pytest.mark.usefixtures("portable_gates")
async def test_a_portable_gate_shakes_hands_and_is_gone(gate_image: str, tmp_path: Path) -> None:
    await shake_hands_portable(gate_image, run_dir=tmp_path)
    assert left_of(tmp_path) == []


@pytest.mark.docker
async def test_an_engine_that_shares_a_socket_has_gates_that_hand_over(gate_image: str, tmp_path: Path) -> None:
    assert (await choose_gate("auto", gate_image, tmp_path)).portal is None
    assert left_of(tmp_path) == []


@pytest.mark.docker
@pytest.mark.usefixtures("portable_gates")
async def test_an_engine_that_shares_no_socket_has_portable_gates(gate_image: str, tmp_path: Path) -> None:
    """The engine's files are not ours here: every directory that we mount into a gate is another, empty one there."""
    docker = tmp_path / "docker"
    docker.write_text(
        "#!/bin/bash\n"
        f'exec {shlex.quote(str(shutil.which(ENGINE)))} "${{@/type=bind,source=*,target=*gate/'
        f'type=tmpfs,target=/run/preflight-gate}}"\n'
    )
    docker.chmod(0o755)
    choice = await choose_gate("auto", gate_image, tmp_path, executable=str(docker))
    assert choice.portal is not None
    assert "does not share a unix socket" in choice.sentence
    assert left_of(tmp_path) == []
    docker.unlink()
    assert await choose_gate("auto", gate_image, tmp_path, executable=str(docker)) is choice


@pytest.mark.docker
@pytest.mark.usefixtures("portable_gates")
async def test_a_forwarder_that_does_not_arrive_is_told_with_the_address_and_what_to_allow(
    gate_image: str, tmp_path: Path
) -> None:
    """The bridge's interface is taken for loopback's, so the forwarder looks for us in its own container."""
    docker = tmp_path / "docker"
    docker.write_text(
        '#!/bin/sh\ncase "$*" in\n'
        """'network inspect bridge'*) echo '{"com.docker.network.bridge.name":"lo"}';;\n"""
        f'*) exec {shlex.quote(str(shutil.which(ENGINE)))} "$@";;\nesac\n'
    )
    docker.chmod(0o755)
    with pytest.raises(OperatingError, match=r"machine at 127\.0\.0\.1 within 5 s.*accept TCP from the interface lo"):
        await choose_gate("portable", gate_image, tmp_path, executable=str(docker))
    assert left_of(tmp_path) == []
