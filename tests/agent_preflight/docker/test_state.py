"""What `docker inspect` prints, as engine 20.10.24 printed it."""

from __future__ import annotations

import pytest

from agent_preflight.docker.failure import DockerError
from agent_preflight.docker.state import ContainerState, parse_state
from agent_preflight.sandbox import Exit
from tests.cases import each

NEVER_STARTED = (
    '{"Status":"created","Running":false,"Paused":false,"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":0,"ExitCode":127,'
    '"Error":"exec: \\"nosuchcmd\\": executable file not found","StartedAt":"0001-01-01T00:00:00Z",'
    '"FinishedAt":"0001-01-01T00:00:00Z"}'
)
KILLED = (
    '{"Status":"exited","Running":false,"Paused":false,"Restarting":false,"OOMKilled":true,"Dead":false,"Pid":0,"ExitCode":137,'
    '"Error":"","StartedAt":"2026-11-25T02:36:02.968863255Z","FinishedAt":"2026-11-25T02:36:03.037506881Z"}'
)


def test_a_container_that_could_not_start_has_not_ended() -> None:
    state = parse_state(NEVER_STARTED)
    assert not state.started
    assert not state.ended
    assert "nosuchcmd" in state.error


def test_a_killed_container_has_its_exit_code_and_its_reason() -> None:
    assert parse_state(KILLED) == ContainerState(started=True, ended=True, exit=Exit(137, out_of_memory=True), error="")


@each("status", ["running", "paused", "restarting", "removing"])
def test_what_still_runs_has_not_ended(status: str) -> None:
    assert not parse_state(KILLED.replace("exited", status)).ended


def test_one_that_podman_has_not_tidied_up_has_ended() -> None:
    assert parse_state(KILLED.replace("exited", "stopped")).ended


@each("text", ["", "null", "[]", "{}"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(DockerError, match="no container state"):
        parse_state(text)
