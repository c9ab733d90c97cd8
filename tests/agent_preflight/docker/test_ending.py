"""How containers end when the engine errs, hangs or lies; the docker command is played by a script."""

from __future__ import annotations

import pytest

from agent_preflight.docker.cli import Docker
from agent_preflight.docker.ending import Ended, end_container, remove_container, remove_strays
from agent_preflight.sandbox import Exit
from tests.agent_preflight.docker.conftest import Scripted

pytestmark = pytest.mark.wire

GONE = "echo 'Error response from daemon: No such container: c' >&2; exit 1"
AWAY = "echo 'Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?' >&2; exit 1"
STOPPED = "echo 'Error response from daemon: Cannot kill container: c: Container c is not running' >&2; exit 1"
STATE = """echo '{"Status":"exited","OOMKilled":false,"ExitCode":7,"Error":"","StartedAt":"2026-11-25T02:36:02Z"}'"""


def engine(kill: str = ":", look: str = STATE, rm: str = "touch removed") -> str:
    return f"""
    kill*) {kill};;
    wait*) :;;
    'container inspect'*) if [ -e removed ]; then {GONE}; else {look}; fi;;
    rm*) {rm};;"""


async def test_the_order_is_term_wait_kill_look_remove_look(scripted: Scripted) -> None:
    script = scripted(engine())
    assert await end_container(Docker(str(script.path)), "c") == Ended("ok", Exit(7))
    look = "container inspect -f {{json .State}} c"
    assert script.calls() == ["kill -s TERM c", "wait c", "kill -s KILL c", look, "rm -f -v c", look]


async def test_a_container_that_has_ended_is_not_waited_for(scripted: Scripted) -> None:
    script = scripted(engine(kill=STOPPED))
    assert await end_container(Docker(str(script.path)), "c") == Ended("ok", Exit(7))
    assert not any(call.startswith(("wait", "kill -s KILL")) for call in script.calls())


async def test_a_kill_that_hangs_is_followed_by_removal(scripted: Scripted) -> None:
    script = scripted(engine(kill="exec sleep 60"))
    assert (await end_container(Docker(str(script.path)), "c")).step == "ok"
    assert "rm -f -v c" in script.calls()


async def test_an_engine_that_does_not_answer_leaves_it_unverified(scripted: Scripted) -> None:
    script = scripted(engine(kill=AWAY, look=AWAY, rm=AWAY))
    assert await end_container(Docker(str(script.path)), "c") == Ended("unverified", None)


async def test_a_removal_that_claims_success_is_not_believed(scripted: Scripted) -> None:
    script = scripted(engine(rm=":"))
    assert await remove_container(Docker(str(script.path)), "c") == "failed"
    assert script.calls().count("rm -f -v c") == 3


async def test_a_removal_that_fails_is_tried_again(scripted: Scripted) -> None:
    script = scripted(engine(rm="if [ -e once ]; then touch removed; else touch once; exit 1; fi"))
    assert await remove_container(Docker(str(script.path)), "c") == "ok"


async def test_a_removal_that_somebody_else_has_under_way_counts_when_it_is_done(scripted: Scripted) -> None:
    progress = (
        "echo 'Error response from daemon: removal of container c is already in progress' >&2; touch removed; exit 1"
    )
    script = scripted(engine(rm=progress))
    assert await remove_container(Docker(str(script.path)), "c") == "ok"


async def test_strays_are_looked_for_until_two_looks_find_nothing(scripted: Scripted) -> None:
    script = scripted("ps*) if [ -e late ]; then :; else touch late; echo c1; echo c2; fi;;\nrm*) :;;")
    assert await remove_strays(Docker(str(script.path)), ["--filter", "label=x"]) == "ok"
    look = "ps -aq --no-trunc --filter label=x"
    assert script.calls() == [look, "rm -f -v c1 c2", look, look]


async def test_strays_on_an_engine_that_does_not_answer_are_unverified(scripted: Scripted) -> None:
    script = scripted(f"ps*) {AWAY};;")
    assert await remove_strays(Docker(str(script.path)), []) == "unverified"
