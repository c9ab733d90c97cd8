"""Start and end as told by an engine that errs; the docker command is played by a script."""

from __future__ import annotations

import pytest

from agent_preflight.docker.cli import Docker, end
from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.running import attach, until_ended, until_started
from agent_preflight.sandbox import Exit
from tests.agent_preflight.docker.conftest import Scripted

pytestmark = pytest.mark.wire

AWAY = "echo 'Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?' >&2; exit 1"
GONE = "echo 'Error response from daemon: No such container: c' >&2; exit 1"


def state(status: str, code: int = 0, started: str = "2026-11-25T02:36:02Z", error: str = "") -> str:
    return f"""echo '{{"Status":"{status}","OOMKilled":false,"ExitCode":{code},"Error":"{error}","StartedAt":"{started}"}}'"""


NEVER = "0001-01-01T00:00:00Z"
RUNNING = state("running")


def engine(looks: list[str], start: str = "exec sleep 60", wait: str = ":") -> str:
    """Each look at the container takes the next answer; the last one stays."""
    branches = "\n".join(f"{number}) {look};;" for number, look in enumerate(looks))
    return f"""
    start*) {start};;
    wait*) {wait};;
    'container inspect'*)
        count=$(cat count 2>/dev/null || echo 0)
        [ $count -lt {len(looks) - 1} ] && echo $((count + 1)) > count
        case $count in {branches}
        esac;;"""


async def started(docker: Docker) -> None:
    attached = await attach(docker, "c")
    try:
        await until_started(docker, "c", attached, "starting")
    finally:
        await end(attached)


async def ended(docker: Docker) -> Exit | None:
    attached = await attach(docker, "c")
    try:
        return await until_ended(docker, "c", attached)
    finally:
        await end(attached)


async def test_a_start_is_done_when_the_engine_says_so(scripted: Scripted) -> None:
    created = state("created", started=NEVER)
    script = scripted(engine([created, created, RUNNING]))
    await started(Docker(str(script.path)))
    assert sum("inspect" in call for call in script.calls()) == 3


async def test_an_agent_that_has_ended_by_the_first_look_was_started(scripted: Scripted) -> None:
    await started(Docker(str(scripted(engine([state("exited", 3)], start=":")).path)))


async def test_a_client_that_gives_up_has_the_reason_or_the_engine_has(scripted: Scripted) -> None:
    complaint = "echo 'Error response from daemon: network gone' >&2; exit 1"
    script = scripted(engine([state("created", started=NEVER)], start=complaint))
    with pytest.raises(DockerError, match=r"starting: .*network gone"):
        await started(Docker(str(script.path)))
    script = scripted(engine([state("created", 127, NEVER, "no such file")], start=complaint))
    with pytest.raises(DockerError, match="starting: no such file"):
        await started(Docker(str(script.path)))


async def test_a_container_that_is_gone_did_not_start(scripted: Scripted) -> None:
    with pytest.raises(DockerError, match="its container is gone"):
        await started(Docker(str(scripted(engine([GONE])).path)))


async def test_the_engines_word_counts_and_not_the_signal(scripted: Scripted) -> None:
    script = scripted(engine([RUNNING, RUNNING, state("exited", 5)]))
    assert await ended(Docker(str(script.path))) == Exit(5)
    assert sum(call.startswith("wait") for call in script.calls()) == 2


async def test_a_container_that_is_gone_has_ended_without_a_code(scripted: Scripted) -> None:
    assert await ended(Docker(str(scripted(engine([RUNNING, GONE])).path))) == Exit(None)


async def test_an_engine_that_is_away_is_asked_again(scripted: Scripted) -> None:
    script = scripted(engine([AWAY, state("exited", 4)]))
    assert await ended(Docker(str(script.path))) == Exit(4)


async def test_a_client_that_died_while_the_agent_runs_on_is_told(scripted: Scripted) -> None:
    script = scripted(engine([RUNNING], start="exit 137", wait="exec sleep 60"))
    assert await ended(Docker(str(script.path))) is None


async def test_a_client_that_ends_a_moment_before_the_engine_knows_is_no_loss(scripted: Scripted) -> None:
    script = scripted(engine([RUNNING, RUNNING, state("exited", 6)], start="exit 6", wait="echo 6"))
    assert await ended(Docker(str(script.path))) == Exit(6)
