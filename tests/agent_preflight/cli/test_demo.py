"""`agent-preflight demo`: its options; the demo itself is tested where it lives."""

from tests.support.cli_commands import invoke


def test_an_unknown_sandbox_is_a_bad_option() -> None:
    told = invoke("demo", "--sandbox", "vm")
    assert told.exit_code == 2


def test_containers_that_are_wished_for_and_cannot_be_had_are_an_error() -> None:
    told = invoke("demo", "--sandbox", "docker", env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    assert told.exit_code == 1
    assert "no Docker engine answers" in told.stderr
