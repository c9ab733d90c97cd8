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


@pytest.mark.wire
@pytest.mark.parametrize(
    ("created", "told"),
    [
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.1+02:00", "2026-01-02T01:04:05Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+02:00", "0001-01-01T00:00:00"),
        ("2026-01-02T03:04:05.1", "2026-01-02T03:04:05"),
        ("some day in the year before last", "some day in the yea"),
    ],
)
def test_an_image_s_date_is_utc_and_says_so(docker_host: ScriptedEngine, created: str, told: str) -> None:
    docker_host.state.images["img"] = {"Id": "sha256:img", "Created": created}
    (line,) = check_docker_image(INPUTS, Facts(INPUTS))
    assert (line.ok, line.detail) == (True, f"created {told}")
