"""Where the budget link goes; the engine is played by a script. Real containers: test_sandbox."""

from __future__ import annotations

import io
import tarfile

import pytest

from agent_preflight.docker.budget_link import link_copies, place_link
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each
from tests.support.scripted_engine import DROP, HANG, USUAL, Answer, Fail, ScriptedEngine, Text
from tests.support.short_engine_limits import short_limits

PUT = "PUT /containers/*/archive"


def entries(archive: bytes) -> list[tuple[str, bool, int]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(entry.name, entry.isdir(), entry.mode) for entry in tar]


@pytest.fixture
def identity(scripted: ScriptedEngine) -> str:
    """A container that has `/`, `/tmp` and `/workspace`."""
    return scripted.state.create("c1", {"Image": "me/agent"}).id


async def placed(client: Engine, scripted: ScriptedEngine, identity: str) -> tuple[bool, list[str]]:
    done = await place_link(client, identity, link_copies("/workspace/a/out"))
    return done, [call.partition("path=")[2] for call in scripted.calls]


@pytest.mark.wire
async def test_a_workspace_that_exists_needs_one_copy(client: Engine, scripted: ScriptedEngine, identity: str) -> None:
    scripted.container("c1").directories.add("/workspace/a/out")
    assert await placed(client, scripted, identity) == (True, ["/workspace/a/out"])
    assert [path for path, _ in scripted.container("c1").archives] == ["/workspace/a/out"]


@pytest.mark.wire
async def test_missing_directories_are_climbed_over(client: Engine, scripted: ScriptedEngine, identity: str) -> None:
    asked = ["/workspace/a/out", "/workspace/a", "/workspace"]
    assert await placed(client, scripted, identity) == (True, asked)
    [(path, archive)] = scripted.container("c1").archives
    assert path == "/workspace"
    assert [name for name, _, _ in entries(archive)] == ["a", "a/out", "a/out/budget.txt"]


@pytest.mark.wire
@pytest.mark.parametrize(
    "answer",
    [
        Fail(400, "container rootfs is marked read-only"),
        Fail(403, "no"),
        Fail(500, "mounted volume is marked read-only"),
    ],
)
async def test_a_place_that_takes_no_link_is_not_climbed_over(
    client: Engine, scripted: ScriptedEngine, identity: str, answer: Answer
) -> None:
    scripted.script(PUT, answer)
    assert await placed(client, scripted, identity) == (False, ["/workspace/a/out"])


@pytest.mark.wire
async def test_nothing_anywhere_is_a_no(client: Engine, scripted: ScriptedEngine, identity: str) -> None:
    scripted.script(PUT, Fail(404, "Could not find the file"))
    asked = ["/workspace/a/out", "/workspace/a", "/workspace", "/"]
    assert await placed(client, scripted, identity) == (False, asked)


@pytest.mark.wire
@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (DROP, Failure.LOST),
        (HANG, Failure.TIMEOUT),
        (Fail(409, "busy"), Failure.CONFLICT),
        (Text(404, "{", "application/json"), Failure.NOT_DOCKER),
    ],
)
async def test_an_engine_that_says_nothing_of_the_place_is_an_error(
    client: Engine,
    scripted: ScriptedEngine,
    identity: str,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    failure: Failure,
) -> None:
    if answer is HANG:
        short_limits(monkeypatch)
    scripted.script(PUT, Fail(404, "Could not find the file"), answer)
    with pytest.raises(DockerError, match=r"^writing into /workspace/a: ") as caught:
        await placed(client, scripted, identity)
    assert caught.value.failure is failure


@pytest.mark.wire
async def test_a_connection_that_breaks_once_is_no_reason_to_give_up(
    client: Engine, scripted: ScriptedEngine, identity: str
) -> None:
    scripted.container("c1").directories.add("/workspace/a/out")
    scripted.script(PUT, DROP, USUAL)
    assert (await placed(client, scripted, identity))[0]


def test_the_link_is_placed_alone_where_the_workspace_exists() -> None:
    directory, archive = next(iter(link_copies("/workspace/output").items()))
    assert directory == "/workspace/output"
    assert entries(archive) == [("budget.txt", False, 0o777)]


def test_missing_parents_are_made_for_any_user_and_only_they() -> None:
    copies = link_copies("/workspace/output")
    assert list(copies) == ["/workspace/output", "/workspace", "/"]
    assert entries(copies["/"]) == [
        ("workspace", True, 0o777),
        ("workspace/output", True, 0o777),
        ("workspace/output/budget.txt", False, 0o777),
    ]


def test_the_link_leads_to_the_budget_file() -> None:
    with tarfile.open(fileobj=io.BytesIO(link_copies("/w")["/w"])) as tar:
        assert tar.getmember("budget.txt").linkname == "/run/preflight/budget.txt"


@each("path", ["workspace", "/a/../etc", ""])
def test_a_workspace_that_is_no_plain_absolute_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="workspace_path"):
        link_copies(path)
