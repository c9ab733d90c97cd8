"""The findings on an engine, and on the gates and networks that are possible on it."""

from __future__ import annotations

from typing import Any

import pytest

from agent_preflight.doctor.containers import CLIENTS, UNTRIED, engine_lines, info_lines, network_lines, try_handshake
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


def test_an_engine_is_shown_with_its_version_its_system_and_its_address() -> None:
    (line,) = info_lines(URL, INFO)
    assert (line.name, line.ok) == ("Docker", True)
    assert line.detail == f"27.1 on Debian, control groups v2, at {URL}"


@each("info", [{}, {"ServerVersion": "", "SecurityOptions": None}, {"ServerVersion": None, "Warnings": ["x"]}])
def test_what_an_engine_does_not_report_is_shown_as_a_question_mark(info: dict[str, Any]) -> None:
    assert [line.detail for line in info_lines(URL, info)] == [f"? on ?, control groups v?, at {URL}"]


def test_what_nobody_has_tried_is_a_warning() -> None:
    info = {**INFO, "OperatingSystem": "Docker Desktop", "SecurityOptions": ["name=rootless", "name=selinux"]}
    engine, *untried = info_lines(URL, info)
    assert engine.ok
    assert [line.ok for line in untried] == [None, None, None]
    assert [line.detail.split(" is in use")[0] for line in untried] == ["rootless", "selinux", "Docker Desktop"]


@pytest.mark.wire
def test_an_engine_that_answers_is_shown(docker_host: ScriptedEngine) -> None:
    (line,) = engine_lines()
    assert line.detail == f"20.10.24 on Debian GNU/Linux 12, control groups v2, at {docker_host.url}"


@pytest.mark.wire
def test_an_engine_that_does_not_answer_is_a_warning_with_the_reason_and_what_to_do(no_engine: str) -> None:
    (line,) = engine_lines()
    assert (line.name, line.ok) == ("Docker", None)
    assert f"no Docker engine answers at {no_engine}" in line.detail
    assert "--sandbox process" in line.hint


@pytest.mark.wire
def test_an_engine_whose_answer_cannot_be_used_is_a_warning_with_the_reason(docker_host: ScriptedEngine) -> None:
    docker_host.script("GET /info", Fail(500, "the disk is full"))
    assert "the disk is full" in engine_lines()[0].detail
    docker_host.script("GET /info", Text(200, "5"))
    assert "no Docker engine" in engine_lines()[0].detail


@pytest.mark.wire
@pytest.mark.parametrize("portable", [False, True])
def test_a_handshake_that_fails_returns_the_reason(docker_host: ScriptedEngine, portable: bool) -> None:
    docker_host.script("POST /containers/create", Fail(400, "no such option"))
    assert "no such option" in str(try_handshake("me/agent", portable=portable))
    assert docker_host.state.containers == {}
    bodies = [body for call, body in docker_host.bodies if call.startswith("POST /containers/create")]
    assert bodies[0]["Labels"]["agent-preflight.dir"] == str(tries_dir() / "handshake")
    assert list(tries_dir().iterdir()) == []


@pytest.mark.docker
def test_a_gate_hands_its_listeners_over_on_this_engine() -> None:
    assert engine_lines()[0].ok
    handshake = try_handshake(BASE)
    assert isinstance(handshake, float), handshake
    assert handshake < 5


@pytest.mark.docker
def test_without_an_image_to_build_on_nothing_is_pulled() -> None:
    assert str(try_handshake("no/such:image")).startswith("not tried: no image is here")


def test_with_a_shared_gate_every_network_is_possible() -> None:
    lines = network_lines(0.3, 0.4, cookies=True)
    assert [(line.name, line.ok) for line in lines] == [
        *(("sealed", True), ("bridge", True), ("processes", True)),
        *(("shared gate", True), ("portable gate", True)),
    ]
    assert "0.30 s" in lines[3].detail
    assert "shared" in lines[0].detail


@each("shared, cookies, reason", [("shares no socket", True, "shares no socket"), (0.3, False, "namespaces")])
def test_with_a_portable_gate_alone_every_network_is_possible(shared: float | str, cookies: bool, reason: str) -> None:
    sealed, bridge, _, shared_gate, portable_gate = network_lines(shared, 0.4, cookies=cookies)
    assert (sealed.ok, bridge.ok, shared_gate.ok, portable_gate.ok) == (True, True, None, True)
    assert "portable" in sealed.detail
    assert reason in shared_gate.detail


@each(
    "shared, cookies, reason",
    [("no engine answers", True, "no engine"), ("not tried", False, "not tried"), (0.3, False, "namespaces")],
)
def test_without_a_gate_the_reason_is_given_and_processes_remain(
    shared: float | str, cookies: bool, reason: str
) -> None:
    sealed, bridge, processes, shared_gate, portable_gate = network_lines(shared, "not tried", cookies=cookies)
    assert (sealed.ok, bridge.ok, processes.ok) == (None, None, True)
    assert (shared_gate.ok, portable_gate.ok) == (None, None)
    assert reason in sealed.detail
    assert reason in shared_gate.detail
    assert "--sandbox process" in sealed.hint


def test_what_is_not_promised_is_named() -> None:
    text = " ".join(f"{line.name} {line.detail}" for line in (*UNTRIED, *CLIENTS))
    for word in ("userns-remap", "rootless", "SELinux", "Docker Desktop", "rustls"):
        assert word in text
