"""What the engine says of itself, and whether a gate on it works."""

from __future__ import annotations

from typing import Any

import pytest

from agent_preflight.doctor.containers import (
    EngineFacts,
    Handshake,
    client_lines,
    engine_lines,
    look_for_engine,
    network_lines,
    read_info,
    try_handshake,
    untried_lines,
)
from agent_preflight.runs.folder import tries_dir
from tests.agent_preflight.docker.conftest import BASE
from tests.support.cases import each
from tests.support.scripted_engine import Fail, ScriptedEngine, Text

URL = "unix:///run/docker.sock"
INFO = {
    "ServerVersion": "27.1",
    "OperatingSystem": "Debian",
    "CgroupVersion": "2",
    "SecurityOptions": ["name=seccomp,profile=x"],
}
ENGINE = EngineFacts("27.1", "Debian", "2", ("seccomp",), URL)


def test_its_answer_is_read() -> None:
    assert read_info(URL, INFO) == ENGINE
    assert read_info(URL, {"ServerVersion": "1"}) == EngineFacts("1", "?", "?", (), URL)


@each("told", [{}, {"ServerVersion": "", "SecurityOptions": None}, {"ServerVersion": None, "Warnings": ["x"]}])
def test_what_it_does_not_tell_is_not_known(told: dict[str, Any]) -> None:
    assert read_info(URL, told) == EngineFacts("?", "?", "?", (), URL)


def test_what_nobody_has_tried_is_named() -> None:
    told = {**INFO, "OperatingSystem": "Docker Desktop", "SecurityOptions": ["name=rootless", "name=selinux"]}
    engine = read_info(URL, told)
    assert engine.untried == ("rootless", "selinux", "Docker Desktop")
    assert [line.ok for line in engine_lines(engine)] == [True, None, None, None]
    assert ENGINE.untried == ()


def test_where_it_is_and_what_it_is_are_told() -> None:
    (line,) = engine_lines(ENGINE)
    assert (line.name, line.ok) == ("Docker", True)
    assert line.detail == f"27.1 on Debian, control groups v2, at {URL}"


def test_no_engine_is_a_thing_to_know() -> None:
    (line,) = engine_lines("nobody answers")
    assert (line.name, line.ok, line.detail) == ("Docker", None, "nobody answers")
    assert "--sandbox process" in line.hint


@pytest.mark.wire
def test_an_engine_that_answers_is_known_by_its_address(docker_host: ScriptedEngine) -> None:
    assert look_for_engine() == EngineFacts("20.10.24", "Debian GNU/Linux 12", "2", ("seccomp",), docker_host.url)


@pytest.mark.wire
def test_an_engine_that_does_not_answer_gives_the_reason(no_engine: str) -> None:
    assert f"no Docker engine answers at {no_engine}" in str(look_for_engine())


@pytest.mark.wire
def test_an_engine_that_says_nothing_of_use_gives_the_reason(docker_host: ScriptedEngine) -> None:
    docker_host.script("GET /info", Fail(500, "the disk is full"))
    assert "the disk is full" in str(look_for_engine())
    docker_host.script("GET /info", Text(200, "5"))
    assert "no Docker engine" in str(look_for_engine())


@pytest.mark.wire
@pytest.mark.parametrize("portable", [False, True])
def test_a_handshake_that_fails_gives_the_reason(docker_host: ScriptedEngine, portable: bool) -> None:
    docker_host.script("POST /containers/create", Fail(400, "no such option"))
    handshake = try_handshake("me/agent", portable=portable)
    assert handshake.seconds is None
    assert "no such option" in handshake.reason
    assert docker_host.state.containers == {}
    bodies = [body for call, body in docker_host.bodies if call.startswith("POST /containers/create")]
    assert bodies[0]["Labels"]["agent-preflight.dir"] == str(tries_dir() / "handshake")
    assert list(tries_dir().iterdir()) == []


@pytest.mark.docker
def test_a_gate_hands_over_on_this_engine() -> None:
    assert isinstance(look_for_engine(), EngineFacts)
    handshake = try_handshake(BASE)
    assert handshake.seconds is not None, handshake.reason
    assert handshake.seconds < 5


@pytest.mark.docker
def test_without_an_image_to_build_on_nothing_is_pulled() -> None:
    assert try_handshake("no/such:image").reason.startswith("not tried: no image is here")


WORKS = Handshake(0.3)
NOT_TRIED = Handshake(None, "not tried")


def test_where_the_gate_works_everything_is_possible() -> None:
    lines = network_lines(ENGINE, WORKS, WORKS, cookies=True)
    assert [(line.name, line.ok) for line in lines] == [
        *(("sealed", True), ("bridge", True), ("processes", True)),
        *(("shared gate", True), ("portable gate", True)),
    ]
    assert "0.30 s" in lines[3].detail
    assert "shared" in lines[0].detail


@pytest.mark.parametrize(
    ("handshake", "cookies", "reason"),
    [(Handshake(None, "shares no socket"), True, "shares no socket"), (WORKS, False, "namespaces")],
)
def test_where_only_a_portable_gate_works_everything_is_possible_with_it(
    handshake: Handshake, cookies: bool, reason: str
) -> None:
    sealed, bridge, _, shared, portable = network_lines(ENGINE, handshake, WORKS, cookies)
    assert (sealed.ok, bridge.ok, shared.ok, portable.ok) == (True, True, None, True)
    assert "portable" in sealed.detail
    assert reason in shared.detail


@each(
    "engine, handshake, cookies, reason",
    [
        ("no engine answers", WORKS, True, "no engine answers"),
        (ENGINE, Handshake(None, "shares no socket"), True, "shares no socket"),
        (ENGINE, WORKS, False, "namespaces"),
    ],
)
def test_where_no_gate_works_the_reason_is_given_and_processes_remain(
    engine: EngineFacts | str, handshake: Handshake, cookies: bool, reason: str
) -> None:
    sealed, bridge, processes, shared, portable = network_lines(engine, handshake, NOT_TRIED, cookies)
    assert (sealed.ok, bridge.ok, processes.ok, shared.ok, portable.ok) == (None, None, True, None, None)
    assert reason in sealed.detail
    assert reason in shared.detail
    assert "--sandbox process" in sealed.hint


def test_what_is_not_promised_is_said() -> None:
    told = " ".join(f"{line.name} {line.detail}" for line in (*untried_lines(), *client_lines()))
    for word in ("userns-remap", "rootless", "SELinux", "Docker Desktop", "rustls"):
        assert word in told
