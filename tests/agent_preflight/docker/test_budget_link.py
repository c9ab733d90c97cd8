"""Where the budget link goes; the docker command is played by a script. Real containers: test_container."""

from __future__ import annotations

import pytest

from agent_preflight.docker.argv import link_copies
from agent_preflight.docker.budget_link import place_link
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.failure import DockerError
from tests.agent_preflight.docker.conftest import Scripted

pytestmark = pytest.mark.wire

MISSING = "echo 'destination \"c:/x\" must be a directory' >&2; exit 1"
READ_ONLY = "echo 'Error response from daemon: mounted volume is marked read-only' >&2; exit 1"


async def placed(scripted: Scripted, branches: str) -> tuple[bool, list[str]]:
    script = scripted(branches)
    return await place_link(Docker(str(script.path)), "c", link_copies("/w/out")), script.calls()


async def test_a_workspace_that_exists_needs_one_copy(scripted: Scripted) -> None:
    assert await placed(scripted, "cp*) cat >/dev/null;;") == (True, ["cp - c:/w/out"])


async def test_missing_directories_are_climbed_over(scripted: Scripted) -> None:
    branches = f"'cp - c:/w/out') {MISSING};;\n'cp - c:/w') cat >/dev/null;;"
    assert await placed(scripted, branches) == (True, ["cp - c:/w/out", "cp - c:/w"])


async def test_a_read_only_place_is_not_climbed_over(scripted: Scripted) -> None:
    assert await placed(scripted, f"cp*) {READ_ONLY};;") == (False, ["cp - c:/w/out"])


async def test_nothing_anywhere_is_a_no(scripted: Scripted) -> None:
    assert (await placed(scripted, f"cp*) {MISSING};;"))[0] is False


async def test_no_engine_is_an_error() -> None:
    with pytest.raises(DockerError):
        await place_link(Docker("/no/such/docker"), "c", link_copies("/w"))
