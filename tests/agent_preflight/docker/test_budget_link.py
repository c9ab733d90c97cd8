"""Where the budget link goes; the docker command is played by a script. Real containers: test_container."""

from __future__ import annotations

import io
import tarfile

import pytest

from agent_preflight.docker.budget_link import link_copies, place_link
from agent_preflight.docker.cli import Docker
from agent_preflight.docker.failure import DockerError
from preflight_proxy.errors import ConfigError
from tests.agent_preflight.docker.conftest import Scripted
from tests.cases import each

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


def entries(archive: bytes) -> list[tuple[str, bool, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(entry.name, entry.isdir(), entry.mode) for entry in tar]


def test_the_link_is_placed_alone_where_the_workspace_exists() -> None:
    first = link_copies("/workspace/output")[0]
    assert first.directory == "/workspace/output"
    assert entries(first.archive) == [("budget.txt", False, 0o777)]


def test_missing_parents_are_made_for_any_user_and_only_they() -> None:
    copies = link_copies("/workspace/output")
    assert [copy.directory for copy in copies] == ["/workspace/output", "/workspace", "/"]
    assert entries(copies[2].archive) == [
        ("workspace", True, 0o777),
        ("workspace/output", True, 0o777),
        ("workspace/output/budget.txt", False, 0o777),
    ]


def test_the_link_leads_to_the_budget_file() -> None:
    with tarfile.open(fileobj=io.BytesIO(link_copies("/w")[0].archive)) as tar:
        assert tar.getmember("budget.txt").linkname == "/run/preflight/budget.txt"


@each("path", ["workspace", "/a/../etc", ""])
def test_a_workspace_that_is_no_plain_absolute_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="workspace_path"):
        link_copies(path)
