"""Images, asked of engines that misbehave; the usual answers are in test_preflight."""

import pytest

from agent_preflight.checks.images import check_docker_image
from agent_preflight.checks.inputs import Facts, Inputs
from tests.support.scripted_engine import Fail, ScriptedEngine

INPUTS = Inputs("admin", "key", (), 1.0, docker_image="img")


@pytest.mark.wire
def test_a_daemon_that_is_down_is_not_an_absent_image(no_engine: str) -> None:
    (line,) = check_docker_image(INPUTS, Facts(INPUTS))
    assert line.failure.startswith("Docker image 'img': looking for ")
    assert f"no Docker engine answers at {no_engine}" in line.failure


@pytest.mark.wire
def test_an_engine_that_fails_is_not_an_absent_image(docker_host: ScriptedEngine) -> None:
    docker_host.script("GET /images/*/json", Fail(500, "the disk is broken"))
    (line,) = check_docker_image(INPUTS, Facts(INPUTS))
    assert line.failure == "Docker image 'img': looking for the image img: the disk is broken"
