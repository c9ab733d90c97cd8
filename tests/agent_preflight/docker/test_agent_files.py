"""Where the budget link goes, and what of an output folder is kept, on an engine that errs, hangs and breaks off."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from agent_preflight.docker.agent_files import LinkPlace, keep, link_copies, place_link
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.kept_output import RECORD, OutputPolicy
from preflight_proxy.core.errors import ConfigError
from tests.agent_preflight.sandboxes.test_tar_stream import archive, member
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


async def placed(
    client: Engine, scripted: ScriptedEngine, identity: str, known: str | None = None
) -> tuple[bool, list[str]]:
    done = await place_link(client, identity, link_copies("/workspace/a/out"), LinkPlace(known))
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
async def test_containers_that_are_alike_climb_over_missing_directories_once(
    client: Engine, scripted: ScriptedEngine, identity: str
) -> None:
    place, other = LinkPlace(), scripted.state.create("c2", {"Image": "me/agent"}).id
    for container in (identity, other):
        assert await place_link(client, container, link_copies("/workspace/a/out"), place)
    asked = [call.partition("path=")[2] for call in scripted.calls]
    assert asked == ["/workspace/a/out", "/workspace/a", "/workspace", "/workspace"]
    assert scripted.container("c1").archives == scripted.container("c2").archives


@pytest.mark.wire
async def test_a_known_place_that_is_missing_is_looked_for_again(
    client: Engine, scripted: ScriptedEngine, identity: str
) -> None:
    asked = ["/workspace/a", "/workspace/a/out", "/workspace/a", "/workspace"]
    assert await placed(client, scripted, identity, "/workspace/a") == (True, asked)


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


pytestmark = pytest.mark.wire

PATH = "/workspace/output"
ARCHIVE = "GET /containers/*/archive"
WHOLE = archive([(member("output", tarfile.DIRTYPE), b""), (member("output/a"), b"1" * 100_000)])
QUICK = OutputPolicy(timeout_s=0.3)


@pytest.fixture
async def container(client: Engine, scripted: ScriptedEngine) -> str:
    """A stopped container with one file in its output folder."""
    made = await client.create("one", {"Image": "me/agent"}, "creating")
    scripted.container("one").contents[PATH] = WHOLE
    return made


async def test_the_folder_is_asked_for_once(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path
) -> None:
    scripted.calls.clear()
    kept = await keep(client, container, OutputPolicy(), tmp_path)
    assert (kept.path, kept.files, kept.bytes) == (str(tmp_path / "workspace"), 1, 100_000)
    assert (tmp_path / "workspace" / "a").read_bytes() == b"1" * 100_000
    assert scripted.calls == [f"GET /containers/{container}/archive?path={PATH}"]


async def test_a_record_says_of_which_container_it_is_a_copy(client: Engine, container: str, tmp_path: Path) -> None:
    await keep(client, container, OutputPolicy(), tmp_path)
    text = (tmp_path / RECORD).read_text()
    assert container in text
    assert (tmp_path / RECORD).stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_does_not_exist_is_no_failure(client: Engine, container: str, tmp_path: Path) -> None:
    kept = await keep(client, container, OutputPolicy(path="/elsewhere"), tmp_path)
    assert (kept.path, kept.why, kept.limits) == (None, "there is no such folder", ())
    assert not (tmp_path / "workspace").exists()


async def test_a_link_in_its_place_is_followed_within_the_container(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path
) -> None:
    contents = scripted.container("one").contents
    contents[PATH] = archive([(member("output", tarfile.SYMTYPE, linkname="/data"), b"")])
    contents[f"{PATH}/."] = archive([(member("./", tarfile.DIRTYPE), b""), (member("./b"), b"2")])
    kept = await keep(client, container, OutputPolicy(), tmp_path)
    assert ((tmp_path / "workspace" / "b").read_text(), kept.skipped_count) == ("2", 0)


async def test_a_link_that_leads_to_no_folder_is_no_failure(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path
) -> None:
    scripted.container("one").contents[PATH] = archive([(member("output", tarfile.SYMTYPE, linkname="/etc/x"), b"")])
    for answer, why in (
        (USUAL, "there is no such folder"),
        (Fail(500, "not a directory"), "the engine cannot read it"),
    ):
        scripted.script(ARCHIVE, USUAL, answer)
        kept = await keep(client, container, OutputPolicy(), tmp_path)
        assert (kept.path, kept.why) == (None, why)


@pytest.mark.parametrize("answer", [Fail(500, "not a directory"), Fail(400, "no"), Text(200, "x" * 512)])
async def test_a_path_that_alone_the_engine_cannot_read_keeps_no_container(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path, answer: Answer
) -> None:
    scripted.script(ARCHIVE, answer)
    if isinstance(answer, Text):  # a broken archive tells nothing of the path
        with pytest.raises(DockerError):
            await keep(client, container, OutputPolicy(), tmp_path)
        return
    kept = await keep(client, container, OutputPolicy(), tmp_path)
    assert (kept.path, kept.why, kept.limits) == (None, "the engine cannot read it", ("archive",))


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (Fail(500, "disk full"), Failure.FAILED),
        (Fail(400, "no"), Failure.REFUSED),
        (Text(200, WHOLE[:60_000], "application/x-tar"), Failure.NOT_DOCKER),
        (Text(200, WHOLE[:512] + b"x" * 512, "application/x-tar"), Failure.NOT_DOCKER),
        (DROP, Failure.LOST),
        (HANG, Failure.TIMEOUT),
    ],
)
async def test_an_engine_that_does_not_tell_all_is_an_error_and_leaves_nothing(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path, answer: Answer, failure: Failure
) -> None:
    scripted.script("* /containers/*/archive", answer)
    with pytest.raises(DockerError) as caught:
        await keep(client, container, QUICK if answer is HANG else OutputPolicy(), tmp_path)
    assert caught.value.failure is failure
    assert list(tmp_path.iterdir()) == []


async def test_the_last_try_keeps_what_the_engine_could_read(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path
) -> None:
    two = archive([(member("output", tarfile.DIRTYPE), b""), (member("output/a"), b"1"), (member("output/b"), b"2")])
    scripted.script(ARCHIVE, Text(200, two[:1536] + b"x" * 512, "application/x-tar"))
    kept = await keep(client, container, OutputPolicy(), tmp_path, last_try=True)
    assert (kept.files, kept.limits, (tmp_path / "workspace" / "a").read_text()) == (1, ("archive",), "1")
    scripted.script(ARCHIVE, Fail(500, "no"))
    assert (await keep(client, container, OutputPolicy(), tmp_path, last_try=True)).limits == ("archive",)
    scripted.script(ARCHIVE, DROP)
    with pytest.raises(DockerError):
        await keep(client, container, OutputPolicy(), tmp_path, last_try=True)


async def test_the_limit_of_time_keeps_what_came_until_then(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = archive([(member("output", tarfile.DIRTYPE), b""), (member("output/a"), b"1")])[:1536]

    async def endless(*_: object) -> object:
        yield first
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(client, "archive", endless)
    kept = await keep(client, container, QUICK, tmp_path)
    assert (kept.limits, kept.files) == (("time",), 1)
    assert "0.3 s (output_timeout_s)" in str(kept.warning(QUICK))


async def test_a_disk_that_cannot_be_written_is_its_own_error(
    client: Engine, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("agent_preflight.sandboxes.output_folder.os.write", full)
    with pytest.raises(OSError, match="No space left"):
        await keep(client, container, OutputPolicy(), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_cancelled_copy_leaves_nothing(
    client: Engine, scripted: ScriptedEngine, container: str, tmp_path: Path
) -> None:
    scripted.script(ARCHIVE, HANG)
    copying = asyncio.ensure_future(keep(client, container, OutputPolicy(), tmp_path))
    await scripted.called(ARCHIVE)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert list(tmp_path.iterdir()) == []


async def test_the_loop_goes_on_while_the_disk_is_slow(
    client: Engine, container: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, writing, real = threading.Event(), threading.Event(), os.write

    def slow(fd: int, data: bytes) -> int:
        writing.set()
        assert go.wait(30), "the loop waits for the disk"
        return real(fd, data)

    monkeypatch.setattr("agent_preflight.sandboxes.output_folder.os.write", slow)
    copying = asyncio.ensure_future(keep(client, container, OutputPolicy(), tmp_path))
    while not writing.is_set():
        await asyncio.sleep(0.01)
    assert await client.look(container) is not None
    go.set()
    assert (await copying).files == 1
