"""What the engine says of itself, and whether a gate on it works."""

import json
from pathlib import Path

import pytest

from agent_preflight.doctor.engine import Engine, engine_lines, look_for_engine, read_info, try_handshake
from tests.agent_preflight.docker.conftest import BASE, Scripted, scripted
from tests.cases import each

__all__ = ["scripted"]

INFO = {
    "ServerVersion": "27.1",
    "OperatingSystem": "Debian",
    "CgroupVersion": "2",
    "SecurityOptions": ["name=seccomp,profile=x"],
}
ENGINE = Engine("27.1", "Debian", "2", ("seccomp",))


def test_its_answer_is_read() -> None:
    assert read_info(json.dumps(INFO)) == ENGINE
    assert read_info('{"ServerVersion":"1"}\nwarning') == Engine("1", "?", "?")


@each("text", ["", "[]", "5", "{}", "no JSON", '{"ServerErrors": ["x"]}'])
def test_without_a_version_there_is_no_engine(text: str) -> None:
    assert read_info(text) is None


def test_what_nobody_has_tried_is_named() -> None:
    told = json.dumps(
        {**INFO, "OperatingSystem": "Docker Desktop", "SecurityOptions": ["name=rootless", "name=selinux"]}
    )
    engine = read_info(told)
    assert engine is not None
    assert engine.untried == ("rootless", "selinux", "Docker Desktop")
    assert [line.ok for line in engine_lines(engine, None)] == [True, None, None, None]
    assert ENGINE.untried == ()


def test_no_engine_and_podman_are_things_to_know() -> None:
    lines = engine_lines("there is no command `docker`", "4.9")
    assert [(line.name, line.ok) for line in lines] == [("Docker", None), ("Podman", None)]


@pytest.mark.wire
def test_an_engine_that_does_not_answer_gives_the_reason(scripted: Scripted, tmp_path: Path) -> None:
    assert look_for_engine(str(tmp_path / "none")) == f"there is no command `{tmp_path}/none`"
    down = scripted("info*) echo '{\"ServerErrors\": []}'; echo 'Cannot connect to the daemon' >&2; exit 1;;")
    assert look_for_engine(str(down.path)) == "Cannot connect to the daemon"


@pytest.mark.docker
def test_a_gate_hands_over_on_this_engine() -> None:
    assert isinstance(look_for_engine(), Engine)
    handshake = try_handshake(BASE)
    assert handshake.seconds is not None, handshake.reason
    assert handshake.seconds < 5


@pytest.mark.docker
def test_without_an_image_to_build_on_nothing_is_pulled() -> None:
    assert try_handshake("no/such:image").reason.startswith("not tried: no image is here")
