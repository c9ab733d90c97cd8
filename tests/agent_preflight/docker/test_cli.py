"""The docker command, played by a script."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent_preflight.docker.cli import Docker, docker_answers, end, start_limiter
from agent_preflight.docker.failure import DockerError, Failure
from tests.agent_preflight.docker.conftest import Scripted
from tests.agent_preflight.docker.test_engines import podman

pytestmark = pytest.mark.wire

MISSING = "/no/such/docker"


async def test_a_call_returns_what_was_printed_and_what_it_means(scripted: Scripted) -> None:
    script = scripted("'rm x') echo out; echo 'Error response from daemon: No such container: x' >&2; exit 1;;")
    done = await Docker(str(script.path)).run("rm", "x")
    assert (done.returncode, done.stdout, done.failure) == (1, "out\n", Failure.GONE)


async def test_a_call_gets_its_input(scripted: Scripted) -> None:
    script = scripted("cp*) cat;;")
    assert (await Docker(str(script.path)).run("cp", "-", "x:/", stdin=b"archive")).stdout == "archive"


async def test_a_command_that_does_not_read_its_input_is_no_error_of_ours(scripted: Scripted) -> None:
    script = scripted("cp*) exec <&-; echo 'destination \"x:/\" must be a directory' >&2; exit 1;;")
    done = await Docker(str(script.path)).run("cp", "-", "x:/", stdin=b"x" * 1_000_000)
    assert done.failure is Failure.NOT_A_DIRECTORY


async def test_a_call_that_hangs_is_killed_with_its_children(scripted: Scripted, tmp_path: Path) -> None:
    script = scripted("ps) sleep 60 & echo $! > new && mv new child; wait;;")
    limit_s = 0.3
    while not (tmp_path / "child").exists():  # on a busy machine the script takes longer to get there
        with pytest.raises(DockerError) as caught:
            await Docker(str(script.path)).run("ps", limit_s=limit_s)
        assert caught.value.failure is Failure.TIMEOUT
        limit_s *= 2
    child = int((tmp_path / "child").read_text())
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text()


async def test_a_call_that_is_broken_off_leaves_no_process(scripted: Scripted, tmp_path: Path) -> None:
    script = scripted("ps) echo $$ > pid; exec sleep 60;;")
    call = asyncio.ensure_future(Docker(str(script.path)).run("ps"))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait([call])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_call_runs_in_a_session_that_a_terminals_ctrl_c_does_not_reach(scripted: Scripted) -> None:
    script = scripted("ps) sleep 60;;")
    process = await Docker(str(script.path)).spawn("ps")
    assert os.getsid(process.pid) == process.pid
    await end(process)


async def test_a_failure_says_what_was_tried(scripted: Scripted) -> None:
    script = scripted("start*) echo 'Error response from daemon: it is Monday' >&2; exit 1;;")
    with pytest.raises(DockerError, match="starting the gate: Error response from daemon: it is Monday"):
        await Docker(str(script.path)).must("starting the gate", "start", "x")


async def test_a_command_that_is_not_installed_is_said_to_be_so() -> None:
    with pytest.raises(DockerError, match="not installed") as caught:
        await Docker(MISSING).run("ps")
    assert caught.value.failure is Failure.NO_COMMAND
    with pytest.raises(DockerError, match="not installed"):
        Docker(MISSING).run_now("ps")


async def test_one_loop_has_one_limit_on_starts() -> None:
    assert start_limiter() is start_limiter()
    assert not start_limiter().locked()


def test_two_loops_do_not_share_a_limit() -> None:
    async def limit() -> asyncio.Semaphore:
        return start_limiter()

    assert asyncio.run(limit()) is not asyncio.run(limit())


@pytest.mark.parametrize(
    ("answer", "limit_s", "expected"),
    [
        ("echo 20.10.24", 60.0, True),
        ("echo", 60.0, False),
        ("echo 28.2.2; exit 1", 60.0, False),
        ("exec sleep 60", 0.5, False),
    ],
)
def test_an_engine_answers_only_if_it_tells_its_version(
    scripted: Scripted, answer: str, limit_s: float, expected: bool
) -> None:
    script = scripted(f"version*) {answer};;")
    assert docker_answers(str(script.path), limit_s=limit_s) is expected


def test_no_command_is_no_engine() -> None:
    assert not docker_answers(MISSING)


async def test_another_command_of_docker_s_is_taken_where_the_environment_names_it(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = scripted("version*) echo 20.10.24;;")
    monkeypatch.setenv("PREFLIGHT_ENGINE", str(script.path))
    assert docker_answers()
    assert (await Docker().must("asking", "version")) == "20.10.24"
    assert not docker_answers(MISSING)


async def test_a_podman_that_nobody_has_tried_is_refused_in_words_whatever_its_name(scripted: Scripted) -> None:
    script = scripted("*) exit 0;;", **podman(version="5.4.2"))
    with pytest.raises(DockerError, match=r"passed on Podman 4\.3, and not on 5\.4\.2\. Use docker"):
        await Docker(str(script.path)).run("ps")
    assert not docker_answers(str(script.path))
    assert script.calls() == []


def test_a_podman_that_was_tried_is_used(scripted: Scripted) -> None:
    docker = Docker(str(scripted("", **podman()).path))
    assert docker.is_podman
    assert docker.engine.runtime == "/usr/bin/runc"
    assert not Docker(MISSING).is_podman
