"""Images, asked of docker programs that misbehave; the usual answers are in test_preflight."""

from pathlib import Path

import pytest

from agent_preflight.checks.images import check_docker_image
from agent_preflight.checks.inputs import Facts, Inputs


def test_a_daemon_that_is_down_is_not_an_absent_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    inputs = Inputs("admin", "key", (), 1.0, docker_image="img")
    (line,) = check_docker_image(inputs, Facts(inputs))
    assert line.failure == "Docker image 'img' not found: Cannot connect to the Docker daemon"
